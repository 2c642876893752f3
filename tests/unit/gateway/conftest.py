"""The gateway's handlers with an in-memory topic, without Kafka."""

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
from gateway.api.bulk_registration import BulkRegistrationEndpoint
from gateway.api.certificates import CertificateEndpoints, CertificateIssuer, load_ca
from gateway.api.enrol import EnrolEndpoint
from gateway.api.enrolments import EnrolmentEndpoints
from gateway.api.openapi import openapi_route
from gateway.api.registrar import Registrar
from gateway.api.registration import RegistrationEndpoints
from gateway.api.resource_types import ENROLMENTS, RESOURCES
from gateway.api.resources import ResourceEndpoints
from gateway.api.revoke import RevokeEndpoint
from gateway.api.signing_keys import KeyEndpoints
from gateway.api.token import TokenEndpoint
from gateway.auth.authenticator import Authenticator
from gateway.auth.jwt import JwtService
from gateway.auth.key_store import FileKeyStore
from gateway.auth.rate_limits import RateLimits
from gateway.auth.signing_keys import SigningKeyManager
from gateway.ingest.batch import BatchEndpoint
from gateway.ingest.encoder import TemplateCache
from gateway.ingest.fast_path import FastPathSubmissions
from gateway.ingest.submission import SubmissionEndpoint
from gateway.metrics import GatewayMetrics
from gateway.produce.batcher import SubmissionBatcher
from gateway.produce.cluster_time import ClusterTime
from gateway.produce.producer import KeyedRecord, RecordMetadata, SendError
from gateway.registry.audit_log import AuditLog
from gateway.registry.quotas import RegistrationQuotas
from gateway.registry.use_claims import UseClaims
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.config.secrets import ReloadableTokens
from service.config.settings import Secret
from service.http.application import Application, build_app
from service.http.auth_failures import AuthFailureLimiter
from service.http.bearer_auth import StaticTokenAuth
from service.kafka.tailer import KafkaUnreachableError
from service.metrics.requests import RequestMetrics
from service.slices import Slices
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
    registry_topic: InMemoryTopic,
    tmp_path: Path,
) -> AsyncIterator[Api]:
    """The API, called as an ASGI application and through a socket.

    Through a socket, most submissions use the fast path, without ASGI. Both ways must behave the
    same.
    """
    requests = RequestMetrics(CollectorRegistry())
    metrics = GatewayMetrics()
    registry = RegistryWriter(settings, registry_topic)
    registry_topic.followers.append(registry)
    audit_topic = InMemoryTopic()
    shutil.copytree(settings.signing_keys_dir, tmp_path / "keys")
    keys = SigningKeyManager(FileKeyStore(tmp_path / "keys"), registry, settings.token_lifetime)
    await keys.refresh(time.monotonic() + 5)
    now, latest = registry.time.earliest_seconds, registry.time.latest_seconds
    jwt_service = JwtService(
        keys,
        settings.token_issuer,
        settings.token_audience,
        settings.token_lifetime,
        now,
        registry.time.highest_seconds,
    )
    submissions = InMemorySubmissions()
    batcher = SubmissionBatcher(
        "submissions",
        4,
        submissions,
        taught_clock(range(4)),
        metrics.frames,
        max_pending=3,
        max_bytes=10**8,
    )
    auth_failures = AuthFailureLimiter(requests, settings.auth_failures_per_minute)
    check_admin = StaticTokenAuth(settings.admin_token, "admin", requests, auth_failures)
    rate_limits = RateLimits(settings, requests)
    authenticator = Authenticator(
        registry, jwt_service, requests, metrics, auth_failures, check_admin, rate_limits
    )
    audit_log = AuditLog("audit", audit_topic)
    quotas = RegistrationQuotas(settings, registry, authenticator.catch_up)
    issuer = CertificateIssuer(load_ca(settings), registry, metrics)
    templates, slices = TemplateCache(registry.state, 4), Slices()
    endpoints = {
        kind: SubmissionEndpoint(
            kind,
            settings,
            authenticator,
            batcher,
            metrics,
            rate_limits,
            requests,
            templates,
            slices,
            latest,
        )
        for kind in KINDS.values()
    }
    registrar = Registrar(registry, issuer, quotas, audit_log, metrics)
    claims = UseClaims(registry)
    *resources, enrolments = (
        ResourceEndpoints(resource, settings, registry, authenticator, audit_log, batcher, metrics)
        for resource in (*RESOURCES, ENROLMENTS)
    )
    routes = [
        *(endpoint.route() for endpoint in endpoints.values()),
        BatchEndpoint(
            settings,
            registry,
            authenticator,
            batcher,
            metrics,
            rate_limits,
            templates,
            slices,
            latest,
        ).route(),
        *RegistrationEndpoints(settings, registry, authenticator, registrar).routes(),
        BulkRegistrationEndpoint(settings, registry, authenticator, registrar).route(),
        *(route for resource in resources for route in resource.routes()),
        *EnrolmentEndpoints(settings, registry, authenticator, registrar, enrolments).routes(),
        EnrolEndpoint(
            settings, registry, authenticator, registrar, issuer, claims, audit_log, metrics
        ).route(),
        TokenEndpoint(settings, authenticator, jwt_service, rate_limits, metrics).route(),
        RevokeEndpoint(settings, registry, authenticator, audit_log, metrics).route(),
        *KeyEndpoints(settings, keys, registry, authenticator, audit_log).routes(),
        *CertificateEndpoints(settings, registry, authenticator, issuer, audit_log).routes(),
        openapi_route(),
    ]
    app = build_app(routes, requests, fast_path=FastPathSubmissions(endpoints.items()))
    running = asyncio.create_task(batcher.run())
    async with asking(app, request.param) as http:
        api = Api(
            http,
            registry,
            registry_topic,
            submissions,
            requests,
            metrics,
            jwt_service,
            keys,
            tmp_path / "keys",
            audit_topic,
            batcher,
            quotas,
            [],
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
