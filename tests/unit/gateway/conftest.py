"""The gateway's handlers with an in-memory topic, without Kafka."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from contract.frame import Frame, decode_frame
from contract.topics import Topics
from gateway.app import Gateway
from gateway.auth.jwt import JwtService
from gateway.auth.signing_keys import SigningKeyManager
from gateway.metrics import GatewayMetrics
from gateway.produce.ack_monitor import AckMonitor
from gateway.produce.batcher import SubmissionBatcher
from gateway.produce.cluster_time import ClusterTime
from gateway.produce.producer import Headers, KeyedRecord, RecordMetadata, SendError
from gateway.registry.quotas import RegistrationQuotas
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.config.secrets import ReloadableTokens
from service.config.settings import Secret
from service.evidence import EvidenceLog
from service.http.application import Application, build_app
from service.kafka.tailer import KafkaUnreachableError
from service.kafka.topics import topics_from
from service.metrics.requests import RequestMetrics
from tests.long import IS_LONG
from tests.unit.gateway.clocks import cluster_time, taught_clock
from tests.unit.gateway.raw_http import listening
from tobogganing.devstack.certificate import self_signed_ca
from tobogganing.devstack.secrets import provide_signing_keys


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one signing key."""
    return provide_signing_keys(tmp_path_factory.mktemp("secrets"), {})


@pytest.fixture(scope="session")
def ca_pem() -> Secret:
    return Secret(self_signed_ca(datetime.now(UTC)))


@pytest.fixture
def settings(signing_keys: Path, ca_pem: Secret) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap_servers="127.0.0.1:1",
        metrics_token=ReloadableTokens("scrape"),
        admin_token=ReloadableTokens("admin"),
        signing_keys_dir=str(signing_keys),
        ca_pem=ca_pem,
        answer_within_seconds=1.0,
    )


@dataclass
class InMemoryTopic:
    """A topic with one partition, which its tailers read at once or when `deliver` is called."""

    records: list[ConsumerRecord] = field(default_factory=list)
    followers: list[RegistryWriter] = field(default_factory=list)
    delivered: dict[int, int] = field(default_factory=dict)
    at_once: bool = True
    loses: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    time: ClusterTime = field(default_factory=cluster_time)

    async def until(self, count: int) -> None:
        """Wait until the topic has `count` records."""
        async with asyncio.timeout(5):
            while len(self.records) < count:
                self.grown.clear()
                await self.grown.wait()

    async def wait_until_ready(self) -> None:
        return

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> RecordMetadata:
        if self.loses:
            raise SendError("lost")
        offset, now = len(self.records), time.time_ns() // 1_000_000
        self.records.append(
            ConsumerRecord(
                topic,
                partition,
                offset,
                now,
                1,
                key,
                value,
                None,
                -1,
                len(value or b""),
                tuple(headers),
            )
        )
        self.grown.set()
        if self.at_once:
            for follower in self.followers:
                self.deliver(follower)
        await asyncio.sleep(0)
        return RecordMetadata(offset, now)

    async def send_all(self, topic: str, records: Sequence[KeyedRecord], *, partition: int) -> None:
        for key, value, headers in records:
            await self.send(topic, value, partition=partition, key=key, headers=headers)

    def deliver(self, follower: RegistryWriter) -> None:
        start = self.delivered.get(id(follower), 0)
        self.delivered[id(follower)] = len(self.records)
        follower.apply(0, self.records[start:])


@pytest.fixture
def registry_topic() -> InMemoryTopic:
    return InMemoryTopic()


@dataclass
class InMemorySubmissions:
    """The in-memory submissions topic."""

    frames: list[tuple[int, Frame]] = field(default_factory=list)
    fails: bool = False
    failing: set[int] = field(default_factory=set)

    async def wait_until_ready(self) -> None:
        return

    async def send(self, topic: str, value: bytes, *, partition: int) -> RecordMetadata:
        if self.fails or partition in self.failing:
            raise SendError("lost")
        self.frames.append((partition, decode_frame(value)))
        await asyncio.sleep(0)
        offset = sum(1 for number, _ in self.frames if number == partition) - 1
        return RecordMetadata(offset, time.time_ns() // 1_000_000)


class InMemoryProducer:
    """A producer whose topics are in memory."""

    connected = True

    def __init__(self, topics: Topics, registry: InMemoryTopic) -> None:
        self.audit = InMemoryTopic()
        self.submissions = InMemorySubmissions()
        self.time = registry.time
        self.ack_monitor = AckMonitor()
        self._submissions_topic = topics.submissions.name
        self._records = {topics.registry.name: registry, topics.audit.name: self.audit}

    async def run(self) -> None:
        return

    async def wait_until_ready(self) -> None:
        return

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> RecordMetadata:
        if topic == self._submissions_topic:
            assert value is not None
            return await self.submissions.send(topic, value, partition=partition)
        records = self._records[topic]
        return await records.send(topic, value, partition=partition, key=key, headers=headers)

    async def send_all(self, topic: str, records: Sequence[KeyedRecord], *, partition: int) -> None:
        await self._records[topic].send_all(topic, records, partition=partition)


@dataclass
class Api:
    """The parts of the gateway that a test of the HTTP API uses."""

    http: httpx.AsyncClient
    registry: RegistryWriter
    topic: InMemoryTopic
    submissions: InMemorySubmissions
    requests: RequestMetrics
    metrics: GatewayMetrics
    jwt_service: JwtService
    keys: SigningKeyManager
    key_folder: Path
    audit: InMemoryTopic
    batcher: SubmissionBatcher
    quotas: RegistrationQuotas
    catch_ups: list[float]
    evidence: EvidenceLog
    registry_is_away: bool = False

    async def register(self, collection: str, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(
            f"/api/v1/{collection}/register", json=body, headers={"Authorization": "Bearer admin"}
        )
        assert answer.status_code == 200, answer.text
        answered: dict[str, Any] = answer.json()
        return answered

    def sample(self, name: str, **labels: str) -> float:
        for registry in (self.requests.registry, self.metrics.registry):
            value = registry.get_sample_value(name, labels)
            if value is not None:
                return value
        return 0.0


@contextlib.asynccontextmanager
async def asking(app: Application, way: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application."""
    if way == "asgi":
        within = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=within, base_url="http://gateway") as http:
            yield http
        return
    async with listening(app) as http:
        yield http


WAYS = ("asgi", "socket")
"""How a request reaches the application. Through a socket, most submissions use the fast path,
without ASGI. Both ways must behave the same: test_ways.py compares them."""


@pytest.fixture(params=WAYS if IS_LONG else ["socket"])
async def api(
    request: pytest.FixtureRequest,
    settings: GatewaySettings,
    registry_topic: InMemoryTopic,
    tmp_path: Path,
) -> AsyncIterator[Api]:
    """The API, called through a socket; in the long form also as an ASGI application."""
    async with running_api(settings, registry_topic, tmp_path, request.param) as api:
        yield api


@contextlib.asynccontextmanager
async def running_api(
    settings: GatewaySettings, registry_topic: InMemoryTopic, folder: Path, way: str
) -> AsyncIterator[Api]:
    """Run the API on topics in memory. Its signing keys are copied into `folder`."""
    requests = RequestMetrics(CollectorRegistry())
    shutil.copytree(settings.signing_keys_dir, folder / "keys")
    settings = replace(
        settings,
        signing_keys_dir=str(folder / "keys"),
        linger_ms=0,
        max_queued_submissions=3,
        max_queued_bytes=10**8,
    )
    producer = InMemoryProducer(topics_from(settings), registry_topic)
    registry = RegistryWriter(settings, producer)
    registry_topic.followers.append(registry)
    clock = taught_clock(range(settings.kafka_partitions))
    gateway = Gateway(settings, requests, producer=producer, registry=registry, clock=clock)
    await gateway.keys.refresh(time.monotonic() + 5)
    app = build_app(gateway.routes(), requests, fast_path=gateway.fast_path)
    running = asyncio.create_task(gateway.batcher.run())
    async with asking(app, way) as http:
        api = Api(
            http,
            registry,
            registry_topic,
            producer.submissions,
            requests,
            gateway.metrics,
            gateway.jwt_service,
            gateway.keys,
            folder / "keys",
            producer.audit,
            gateway.batcher,
            gateway.quotas,
            [],
            gateway.evidence,
        )

        async def catch_up(timeout: float) -> None:
            api.catch_ups.append(timeout)
            if api.registry_is_away:
                raise KafkaUnreachableError("away")
            registry_topic.deliver(registry)

        registry.tailer.catch_up = catch_up  # type: ignore[method-assign]
        registry.tailer.caught_up = True
        yield api
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
