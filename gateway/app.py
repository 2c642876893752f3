"""Composition root of the gateway: builds its parts and runs its background tasks.

What is outside of the process comes as an argument, so that tests build the same root with fakes.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, Self

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import KINDS
from gateway.api.bulk_registration import BulkRegistrationEndpoint
from gateway.api.certificates import CertificateEndpoints, CertificateIssuer, load_ca
from gateway.api.endpoints import ApiParts
from gateway.api.enrol import EnrolEndpoint
from gateway.api.enrolments import EnrolmentEndpoints
from gateway.api.openapi import with_document
from gateway.api.registrar import Registrar
from gateway.api.registration import RegistrationEndpoints
from gateway.api.resource_types import ENROLMENTS, RESOURCES
from gateway.api.resources import ResourceEndpoints
from gateway.api.revoke import RevokeEndpoint
from gateway.api.signing_keys import KeyEndpoints
from gateway.api.token import TokenEndpoint
from gateway.auth.actors import ActorAuthenticator
from gateway.auth.authenticator import AuthParts
from gateway.auth.ca import CertificateAuthority
from gateway.auth.client_certificates import ClientCertificates
from gateway.auth.jwt import LEEWAY, JwtService
from gateway.auth.key_store import FileKeyStore
from gateway.auth.rate_limits import RateLimits
from gateway.auth.signing_keys import SigningKeyManager, require_keys
from gateway.ingest.arrival import ArrivalDeadlines
from gateway.ingest.batch import BatchEndpoint
from gateway.ingest.encoder import TemplateCache
from gateway.ingest.fast_path import FastPathSubmissions
from gateway.ingest.parts import IngestParts
from gateway.ingest.submission import SubmissionEndpoint
from gateway.metrics import GatewayMetrics
from gateway.operations import OperationRoute
from gateway.produce.ack_monitor import (
    NOT_READY_AFTER,
    PROBE_AFTER,
    AckMonitor,
    probe_when_silent,
)
from gateway.produce.batcher import SubmissionBatcher
from gateway.produce.broker_clock import BrokerClock
from gateway.produce.cluster_time import PROBE_AFTER as TIME_PROBE_AFTER
from gateway.produce.cluster_time import ClusterTime
from gateway.produce.producer import ResilientProducer
from gateway.produce.stopped import StoppedPartitions
from gateway.registry.audit_log import AuditLog
from gateway.registry.quotas import RegistrationQuotas
from gateway.registry.refusals import RefusalRecorder
from gateway.registry.use_claims import UseClaims
from gateway.registry.writer import RecordSender, RegistryWriter
from gateway.settings import GatewaySettings
from service.evidence import EvidenceLog
from service.http.application import build_app, route
from service.http.auth_failures import AuthFailureLimiter
from service.http.bearer_auth import StaticTokenAuth
from service.http.health import health_routes
from service.kafka.topics import ensure_topics, topics_from, watch_topics
from service.metrics.exposition import exposition
from service.metrics.multiprocess import CallbackGauges, scrape_registries
from service.metrics.requests import RequestMetrics
from service.slices import Slices
from service.tasks import cancel, critical_task, run_together


class Producer(RecordSender, Protocol):
    """The part of gateway.produce.producer.ResilientProducer that a gateway uses."""

    ack_monitor: AckMonitor

    @property
    def connected(self) -> bool: ...

    async def run(self) -> None: ...


def compressed_topics(settings: GatewaySettings) -> frozenset[str]:
    """Return the topics whose records a gateway compresses."""
    if settings.frame_compression == "none":
        return frozenset()
    return frozenset((topics_from(settings).submissions.name,))


class Gateway:
    """Accepts submissions and registrations; an async context manager that runs the background
    tasks.

    `producer` is connected to Kafka, `registry` tails its topic there, `clock` bounds the brokers'
    clocks, and `evidence` writes refusals. Each is the real one unless it is passed in.

    Raises:
        SettingsError: there is no signing key, or CA_PEM or CA_PREVIOUS_PEM is not valid.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        requests: RequestMetrics,
        *,
        producer: Producer | None = None,
        registry: RegistryWriter | None = None,
        clock: BrokerClock | None = None,
        evidence: EvidenceLog | None = None,
    ) -> None:
        self._settings = settings
        self.metrics = GatewayMetrics()

        # Authentication: credentials are checked against the registry.
        self._producer = producer or ResilientProducer(
            settings, self.metrics.producer_failures, compressed_topics(settings)
        )
        self.registry = registry or RegistryWriter(settings, self._producer)
        lifetime = settings.token_lifetime
        folder = FileKeyStore(Path(settings.signing_keys_dir))
        require_keys(folder)
        self.keys = SigningKeyManager(folder, self.registry, lifetime + 2 * LEEWAY)
        cluster_time = self._producer.time
        self.jwt_service = JwtService(
            self.keys,
            settings.token_issuer,
            settings.token_audience,
            lifetime,
            now=cluster_time.earliest_seconds,
            highest=cluster_time.highest_seconds,
        )
        ca = load_ca(settings)
        self._issuer = CertificateIssuer(ca, self.registry, self.metrics)
        auth_failures = AuthFailureLimiter(requests, settings.auth_failures_per_minute)
        self.evidence = evidence or EvidenceLog(
            settings, f"gateway-{secrets.token_hex(4)}", self.metrics.evidence
        )
        refusals = RefusalRecorder(self.registry.state, self.evidence)
        self._rate_limits = RateLimits(settings, requests, refusals)
        auth_parts = AuthParts(
            self.registry,
            self.jwt_service,
            requests,
            self.metrics,
            auth_failures,
            refusals,
            client_certificates(settings, ca, cluster_time),
        )
        admin_auth = StaticTokenAuth(settings.admin_token, "admin", requests, auth_failures)
        self._authenticator = ActorAuthenticator(auth_parts, admin_auth, self._rate_limits)

        self.quotas = RegistrationQuotas(settings, self.registry, self._authenticator.catch_up)
        self._use_claims = UseClaims(self.registry)

        # Ingestion: submissions are encoded and appended to the next frame of their partition.
        self.batcher = SubmissionBatcher(
            topics_from(settings).submissions.name,
            settings.kafka_partitions,
            self._producer,
            clock or BrokerClock(),
            self.metrics.frames,
            settings.max_queued_submissions,
            settings.max_queued_bytes,
            linger=settings.linger_seconds,
        )
        self.on_stop = self.batcher.stop_lingering
        parts = IngestParts(
            settings.max_body_bytes,
            self._authenticator,
            self.batcher,
            ArrivalDeadlines(settings.trusted_proxies, settings.answer_within_seconds),
            self.metrics,
            self._rate_limits,
            refusals,
            TemplateCache(self.registry.state, settings.kafka_partitions),
            Slices(),
            now=cluster_time.latest_seconds,
        )
        self._submissions = [SubmissionEndpoint(kind, parts) for kind in KINDS.values()]
        self._batches = BatchEndpoint(parts)
        self.fast_path = FastPathSubmissions(parts, requests, self._submissions)
        self._gauges = CallbackGauges()
        self._gauges.set_function(self.metrics.waiting, lambda: self.batcher.pending)
        self._stopped = StoppedPartitions(settings, self.batcher)
        self._gauges.set_function(self.metrics.stops_refused, lambda: self._stopped.is_refused)
        self.quotas.export_gauges(self._gauges, self.metrics)
        self._tasks: list[asyncio.Task[None]] = []

    def routes(self) -> list[OperationRoute]:
        """Return all routes under /api/v1."""
        settings = self._settings
        audit_log = AuditLog(topics_from(settings).audit.name, self._producer)
        registrar = Registrar(self.registry, self._issuer, self.quotas, audit_log, self.metrics)
        parts = ApiParts(settings, self.registry, self._authenticator, audit_log, self.metrics)
        *entities, enrolments = (
            ResourceEndpoints(parts, resource, self.batcher)
            for resource in (*RESOURCES, ENROLMENTS)
        )
        routes = [
            *(endpoint.route() for endpoint in self._submissions),
            self._batches.route(),
            *RegistrationEndpoints(parts, registrar).routes(),
            BulkRegistrationEndpoint(parts, registrar).route(),
            *EnrolmentEndpoints(parts, registrar, enrolments).routes(),
            EnrolEndpoint(parts, registrar, self._issuer, self._use_claims).route(),
            *(route for endpoints in entities for route in endpoints.routes()),
            TokenEndpoint(parts, self.jwt_service, self._rate_limits).route(),
            RevokeEndpoint(parts).route(),
            *KeyEndpoints(parts, self.keys).routes(),
            *CertificateEndpoints(parts, self._issuer).routes(),
        ]
        return with_document(routes)

    async def not_ready_reasons(self) -> list[str]:
        """Return the reasons why the gateway is not ready; an empty list if it is ready."""
        reasons = []
        producer = self._producer
        confirms = producer.connected and producer.ack_monitor.seconds_silent() < NOT_READY_AFTER
        if not (confirms and self.registry.tailer.is_reachable()):
            reasons.append("kafka")
        if not self.registry.tailer.caught_up:
            reasons.append("registry")
        elif self.keys.signing_key() is None:
            reasons.append("signing key")
        if self._stopped.was_never_allowed:
            reasons.append("permission to describe the processors' group")
        return reasons

    def _needs_probe(self) -> bool:
        """Whether a probe is needed, because no recent acknowledgement shows the state of Kafka."""
        return (
            self._producer.ack_monitor.seconds_silent() >= PROBE_AFTER
            or self._producer.time.age() >= TIME_PROBE_AFTER
        )

    async def __aenter__(self) -> Self:
        self._tasks = [
            critical_task(self._run_on_kafka(), "registry"),
            critical_task(self.batcher.run(), "batcher"),
            critical_task(self._gauges.run(), "gauges"),
            critical_task(self._stopped.run(), "stopped partitions"),
        ]
        return self

    async def __aexit__(self, *exception: object) -> None:
        await cancel(*reversed(self._tasks))
        await self._use_claims.stop()

    async def _run_on_kafka(self) -> None:
        # The gateway serves requests (with 503) while Kafka is unavailable, so start-up has no
        # timeout.
        await ensure_topics(self._settings, timeout=float("inf"))
        await run_together(
            self._producer.run(),
            probe_when_silent(self._needs_probe, self.batcher.request_probes),
            self.registry.run(),
            self.keys.run(),
            self.evidence.run(),
            watch_topics(self._settings),
        )


def client_certificates(
    settings: GatewaySettings, ca: CertificateAuthority | None, cluster_time: ClusterTime
) -> ClientCertificates | None:
    """Return what verifies client certificates; None unless they are credentials.

    Raises:
        SettingsError: CA_PREVIOUS_PEM is not valid.
    """
    if not settings.is_mtls or ca is None:
        return None
    return ClientCertificates(
        ca.issuers(settings.ca_previous_pem),
        settings.trusted_proxies,
        now=cluster_time.earliest_seconds,
        highest=cluster_time.highest_seconds,
    )


def check_files(settings: GatewaySettings) -> None:
    """Check the files that a gateway needs at start-up.

    Raises:
        SettingsError: there is no signing key, or CA_PEM or CA_PREVIOUS_PEM is not valid.
    """
    require_keys(FileKeyStore(Path(settings.signing_keys_dir)))
    ca = load_ca(settings)
    if ca is not None:
        ca.issuers(settings.ca_previous_pem)


def build_gateway(settings: GatewaySettings) -> Starlette:
    """Build the application of a standalone gateway, with its metrics and health endpoints.

    Raises:
        SettingsError: there is no signing key, or CA_PEM or CA_PREVIOUS_PEM is not valid.
    """
    requests = RequestMetrics(CollectorRegistry())
    gateway = Gateway(settings, requests)
    check_scraper = StaticTokenAuth(settings.metrics_token, "metrics_token", requests)

    async def metrics(request: Request) -> Response:
        check_scraper(request)
        return exposition(request, scrape_registries([requests.registry, gateway.metrics.registry]))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gateway:
            yield

    routes = [
        *gateway.routes(),
        *health_routes(gateway.not_ready_reasons),
        route("/metrics", metrics, "GET"),
    ]
    return build_app(routes, requests, lifespan, gateway.fast_path, gateway.on_stop)
