"""The gateway: its parts, in the order of a submission's way, and their life."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import KINDS
from gateway.audit import Audit
from gateway.auth import TokenEndpoint
from gateway.batch import Batches
from gateway.capacity import Capacity
from gateway.certificates import CertificateEndpoints, Certificates, load_authority
from gateway.clock import BrokerClock
from gateway.cluster_time import ASK_AFTER as TIME_AFTER
from gateway.collection import COLLECTIONS
from gateway.credentials import Credentials
from gateway.direct import DirectSubmissions
from gateway.entities import Entities
from gateway.envelopes import Envelopes
from gateway.jwks import KeyEndpoints
from gateway.key_folder import KeyFolder
from gateway.keys import SigningKeys, require_keys
from gateway.limits import Limits
from gateway.link import Link
from gateway.metrics import GatewayMetrics
from gateway.openapi import openapi_route
from gateway.publish import Publisher
from gateway.pulse import ASK_AFTER, SILENT_AFTER, pulse
from gateway.register import Registrations
from gateway.registry import RegistryWriter
from gateway.revoke import RevokeEndpoint
from gateway.settings import GatewaySettings
from gateway.stopped import StoppedPartitions
from gateway.submit import Submissions
from gateway.tokens import LEEWAY, Tokens
from service.bearer import TokenCheck
from service.exposition import exposition
from service.health import health_routes
from service.http import TemplateRoute, build_app, route
from service.kafka import ensure_topics, topics_of, watch_topics
from service.refusals import Refusals
from service.requests import RequestMetrics
from service.shared_metrics import FollowedGauges, shown
from service.slices import Slices
from service.tasks import cancel, vital


class Gateway:
    """Takes submissions and registrations; an async context manager.

    Raises:
        SettingsError: there is no signing key, or the CA is none.
    """

    def __init__(self, settings: GatewaySettings, requests: RequestMetrics) -> None:
        self._settings = settings
        self._requests = requests
        self.metrics = GatewayMetrics()

        # A request comes with a credential, which the registry knows …
        self._link = Link(settings, self.metrics.producer_failures)
        self.registry = RegistryWriter(settings, self._link)
        lifetime = settings.token_lifetime
        folder = KeyFolder(Path(settings.signing_keys_dir))
        require_keys(folder)
        self._keys = SigningKeys(folder, self.registry, lifetime + 2 * LEEWAY)
        cluster_time = self._link.time
        self.tokens = Tokens(
            self._keys,
            settings.token_issuer,
            settings.token_audience,
            lifetime,
            now=cluster_time.earliest_seconds,
            highest=cluster_time.highest_seconds,
        )
        self._certificates = Certificates(load_authority(settings), self.registry, self.metrics)
        refusals = Refusals(requests, settings.auth_failures_per_minute)
        check_admin = TokenCheck(settings.admin_token, "admin", requests, refusals)
        self._limits = Limits(settings, requests)
        self._credentials = Credentials(
            self.registry,
            self.tokens,
            requests,
            self.metrics,
            refusals,
            check_admin,
            self._limits,
        )

        self._capacity = Capacity(settings, self.registry, self._credentials.catch_up)

        # … and a submission, which leaves in a frame of its partition.
        envelopes = Envelopes(self.registry.state, settings.kafka_partitions)
        self._publisher = Publisher(
            topics_of(settings).submissions.name,
            settings.kafka_partitions,
            self._link,
            BrokerClock(),
            self.metrics.frames,
            settings.max_queued_submissions,
            settings.max_queued_bytes,
        )
        slices = Slices()
        self._submissions = {
            kind: Submissions(
                kind,
                settings,
                self._credentials,
                self._publisher,
                self.metrics,
                self._limits,
                requests,
                envelopes,
                slices,
                cluster_time.latest_seconds,
            )
            for kind in KINDS.values()
        }
        self._batches = Batches(
            settings,
            self.registry,
            self._credentials,
            self._publisher,
            self.metrics,
            self._limits,
            envelopes,
            slices,
            cluster_time.latest_seconds,
        )
        self.direct = DirectSubmissions(self._submissions.items())
        self._gauges = FollowedGauges()
        self._gauges.follow(self.metrics.waiting, lambda: self._publisher.waiting)
        self._stopped = StoppedPartitions(settings, self._publisher)
        self._gauges.follow(self.metrics.stops_refused, lambda: self._stopped.is_refused)
        self._capacity.show(self._gauges, self.metrics)
        self._tasks: list[asyncio.Task[None]] = []

    def routes(self) -> list[TemplateRoute]:
        """Everything under /api/v1."""
        settings, credentials, metrics = self._settings, self._credentials, self.metrics
        audit = Audit(topics_of(settings).audit.name, self._link)
        entities = [
            Entities(
                collection,
                settings,
                self.registry,
                credentials,
                audit,
                self._publisher,
                metrics,
            )
            for collection in COLLECTIONS
        ]
        return [
            *(endpoint.route() for endpoint in self._submissions.values()),
            self._batches.route(),
            *Registrations(
                settings,
                self.registry,
                credentials,
                self._certificates,
                self._capacity,
                audit,
                metrics,
            ).routes(),
            *(route for endpoints in entities for route in endpoints.routes()),
            TokenEndpoint(settings, credentials, self.tokens, self._limits, metrics).route(),
            RevokeEndpoint(settings, self.registry, credentials, audit, metrics).route(),
            *KeyEndpoints(settings, self._keys, self.registry, credentials, audit).routes(),
            *CertificateEndpoints(
                settings, self.registry, credentials, self._certificates, audit
            ).routes(),
            openapi_route(),
        ]

    async def waiting_for(self) -> list[str]:
        """Return what a ready gateway would have and this one has not."""
        reasons = []
        link = self._link
        confirms = link.connected and link.silence.seconds() < SILENT_AFTER
        if not (confirms and self.registry.follower.is_reachable()):
            reasons.append("kafka")
        if not self.registry.follower.caught_up:
            reasons.append("registry")
        elif self._keys.signer() is None:
            reasons.append("signing key")
        if self._stopped.was_never_allowed:
            reasons.append("permission to describe the processors' group")
        return reasons

    def _is_silent(self) -> bool:
        """Whether Kafka is to be asked, since nothing that is sent tells what it confirms."""
        return self._link.silence.seconds() >= ASK_AFTER or self._link.time.age() >= TIME_AFTER

    async def __aenter__(self) -> Self:
        self._tasks = [
            vital(self._follow(), "registry"),
            vital(self._publisher.run(), "publisher"),
            vital(self._gauges.run(), "gauges"),
            vital(self._stopped.run(), "stopped partitions"),
        ]
        return self

    async def __aexit__(self, *exception: object) -> None:
        await cancel(*reversed(self._tasks))

    async def _follow(self) -> None:
        # Requests are taken (and answered 503) while Kafka is away, so a start waits for ever.
        await ensure_topics(self._settings, patience=float("inf"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            tasks.create_task(pulse(self._is_silent, self._publisher.ask))
            tasks.create_task(self.registry.run())
            tasks.create_task(self._keys.run())
            tasks.create_task(watch_topics(self._settings))


def check_files(settings: GatewaySettings) -> None:
    """Check the files that a gateway needs, as its start does.

    Raises:
        SettingsError: there is no signing key, or CA_PEM is not valid.
    """
    require_keys(KeyFolder(Path(settings.signing_keys_dir)))
    load_authority(settings)


def build_gateway(settings: GatewaySettings) -> Starlette:
    """Make the application of a gateway that runs alone, with its metrics and health pages.

    Raises:
        SettingsError: there is no signing key.
    """
    requests = RequestMetrics(CollectorRegistry())
    gateway = Gateway(settings, requests)
    check_scraper = TokenCheck(settings.metrics_token, "metrics_token", requests)

    async def metrics(request: Request) -> Response:
        check_scraper(request)
        return exposition(request, shown([requests.registry, gateway.metrics.registry]))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gateway:
            yield

    routes = [
        *gateway.routes(),
        *health_routes(gateway.waiting_for),
        route("/metrics", metrics, "GET"),
    ]
    return build_app(routes, requests, lifespan, gateway.direct)
