"""The gateway's handlers over a topic in memory, with no Kafka and no clock of their own."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from contract.frame import Frame, decode_frame
from contract.kinds import KINDS
from gateway.audit import Audit
from gateway.auth import TokenEndpoint
from gateway.batch import Batches
from gateway.capacity import Capacity
from gateway.certificates import CertificateEndpoints, Certificates, load_authority
from gateway.cluster_time import ClusterTime
from gateway.collection import COLLECTIONS
from gateway.credentials import Credentials
from gateway.direct import DirectSubmissions
from gateway.entities import Entities
from gateway.envelopes import Envelopes
from gateway.jwks import KeyEndpoints
from gateway.key_folder import KeyFolder
from gateway.keys import SigningKeys
from gateway.limits import Limits
from gateway.link import Appended, SendError
from gateway.metrics import GatewayMetrics
from gateway.openapi import openapi_route
from gateway.publish import Publisher
from gateway.register import Registrations
from gateway.registry import RegistryWriter
from gateway.revoke import RevokeEndpoint
from gateway.settings import GatewaySettings
from gateway.submit import Submissions
from gateway.tokens import Tokens
from service.bearer import TokenCheck
from service.http import Application, build_app
from service.reader import UnreachableError
from service.refusals import Refusals
from service.requests import RequestMetrics
from service.rotating import RotatingTokens
from service.settings import Secret
from service.slices import Slices
from tests.unit.gateway.clocks import cluster_time, taught_clock
from tests.unit.gateway.raw_http import listening
from tobogganing.certificate import authority
from tobogganing.local.secrets import provide_signing_keys


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one signing key."""
    return provide_signing_keys(tmp_path_factory.mktemp("secrets"), {})


@pytest.fixture(scope="session")
def ca_pem() -> Secret:
    return Secret(authority(datetime.now(UTC)))


@pytest.fixture
def settings(signing_keys: Path, ca_pem: Secret) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap_servers="127.0.0.1:1",
        metrics_token=RotatingTokens("scrape"),
        admin_token=RotatingTokens("admin"),
        signing_keys_dir=str(signing_keys),
        ca_pem=ca_pem,
        answer_within_seconds=1.0,
    )


@dataclass
class MemoryTopic:
    """A topic with one partition that its followers read at once, or when `deliver` is called."""

    records: list[ConsumerRecord] = field(default_factory=list)
    followers: list[RegistryWriter] = field(default_factory=list)
    delivered: dict[int, int] = field(default_factory=dict)
    at_once: bool = True
    loses: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    time: ClusterTime = field(default_factory=cluster_time)

    async def until(self, count: int) -> None:
        """Wait until the topic has so many records."""
        async with asyncio.timeout(5):
            while len(self.records) < count:
                self.grown.clear()
                await self.grown.wait()

    async def ready(self) -> None:
        return

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Appended:
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
        return Appended(offset, now)

    def deliver(self, follower: RegistryWriter) -> None:
        start = self.delivered.get(id(follower), 0)
        self.delivered[id(follower)] = len(self.records)
        follower.apply(0, self.records[start:])


@pytest.fixture
def registry_topic() -> MemoryTopic:
    return MemoryTopic()


@dataclass
class MemorySubmissions:
    """The submissions topic, in memory."""

    frames: list[tuple[int, Frame]] = field(default_factory=list)
    fails: bool = False
    failing: set[int] = field(default_factory=set)

    async def ready(self) -> None:
        return

    async def send(self, topic: str, value: bytes, *, partition: int) -> Appended:
        if self.fails or partition in self.failing:
            raise SendError("lost")
        self.frames.append((partition, decode_frame(value)))
        await asyncio.sleep(0)
        offset = sum(1 for number, _ in self.frames if number == partition) - 1
        return Appended(offset, time.time_ns() // 1_000_000)


@dataclass
class Api:
    """What a test of the HTTP interface needs."""

    http: httpx.AsyncClient
    registry: RegistryWriter
    topic: MemoryTopic
    submissions: MemorySubmissions
    requests: RequestMetrics
    metrics: GatewayMetrics
    tokens: Tokens
    keys: SigningKeys
    key_folder: Path
    audit: MemoryTopic
    publisher: Publisher
    capacity: Capacity
    catch_ups: list[float]
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


@pytest.fixture(params=["asgi", "socket"])
async def api(
    request: pytest.FixtureRequest,
    settings: GatewaySettings,
    registry_topic: MemoryTopic,
    tmp_path: Path,
) -> AsyncIterator[Api]:
    """The interface, asked as an ASGI application and through a socket.

    Through a socket most submissions are answered directly, without ASGI: whatever is true of one
    way must be true of the other.
    """
    requests = RequestMetrics(CollectorRegistry())
    metrics = GatewayMetrics()
    registry = RegistryWriter(settings, registry_topic)
    registry_topic.followers.append(registry)
    audit_topic = MemoryTopic()
    shutil.copytree(settings.signing_keys_dir, tmp_path / "keys")
    keys = SigningKeys(KeyFolder(tmp_path / "keys"), registry, settings.token_lifetime)
    await keys.refresh(time.monotonic() + 5)
    now, latest = registry.time.earliest_seconds, registry.time.latest_seconds
    tokens = Tokens(
        keys,
        settings.token_issuer,
        settings.token_audience,
        settings.token_lifetime,
        now,
        registry.time.highest_seconds,
    )
    submissions = MemorySubmissions()
    publisher = Publisher(
        "submissions",
        4,
        submissions,
        taught_clock(range(4)),
        metrics.frames,
        max_waiting=3,
        max_bytes=10**8,
    )
    refusals = Refusals(requests, settings.auth_failures_per_minute)
    check_admin = TokenCheck(settings.admin_token, "admin", requests, refusals)
    limits = Limits(settings, requests)
    credentials = Credentials(registry, tokens, requests, metrics, refusals, check_admin, limits)
    audit = Audit("audit", audit_topic)
    capacity = Capacity(settings, registry, credentials.catch_up)
    certificates = Certificates(load_authority(settings), registry, metrics)
    envelopes, slices = Envelopes(registry.state, 4), Slices()
    endpoints = {
        kind: Submissions(
            kind,
            settings,
            credentials,
            publisher,
            metrics,
            limits,
            requests,
            envelopes,
            slices,
            latest,
        )
        for kind in KINDS.values()
    }
    routes = [
        *(endpoint.route() for endpoint in endpoints.values()),
        Batches(
            settings, registry, credentials, publisher, metrics, limits, envelopes, slices, latest
        ).route(),
        *Registrations(
            settings, registry, credentials, certificates, capacity, audit, metrics
        ).routes(),
        *(
            route
            for collection in COLLECTIONS
            for route in Entities(
                collection, settings, registry, credentials, audit, publisher, metrics
            ).routes()
        ),
        TokenEndpoint(settings, credentials, tokens, limits, metrics).route(),
        RevokeEndpoint(settings, registry, credentials, audit, metrics).route(),
        *KeyEndpoints(settings, keys, registry, credentials, audit).routes(),
        *CertificateEndpoints(settings, registry, credentials, certificates, audit).routes(),
        openapi_route(),
    ]
    app = build_app(routes, requests, direct=DirectSubmissions(endpoints.items()))
    running = asyncio.create_task(publisher.run())
    async with asking(app, request.param) as http:
        api = Api(
            http,
            registry,
            registry_topic,
            submissions,
            requests,
            metrics,
            tokens,
            keys,
            tmp_path / "keys",
            audit_topic,
            publisher,
            capacity,
            [],
        )

        async def catch_up(timeout: float) -> None:
            api.catch_ups.append(timeout)
            if api.registry_is_away:
                raise UnreachableError("away")
            registry_topic.deliver(registry)

        registry.follower.catch_up = catch_up  # type: ignore[method-assign]
        registry.follower.caught_up = True
        yield api
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
