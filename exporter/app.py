"""The exporter, from Kafka to Prometheus.

    entity-state --tailer--> store (entities, ledgers) ------\\
    registry ----reader----> counts -------------------------+--> single flight --> /metrics
                         \\-> directory with rows ------------------------------------> /checkins
    submissions --ends-----> lag ----------------------------+
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from exporter.checkins.freshness import Freshness
from exporter.checkins.routes import CheckinRoutes
from exporter.checkins.service import CheckinService
from exporter.checkins.session import Sessions
from exporter.fleet.view import FleetView
from exporter.ledger import ledger_document
from exporter.metrics import ExporterMetrics, PipelineCollector, RegisteredCollector, StateCollector
from exporter.receipts.status import ReceiptStatus, parse_receipt
from exporter.row_consumer import RowConsumer
from exporter.scrape.read_barrier import ReadBarrier
from exporter.scrape_endpoint import ScrapeEndpoint
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from exporter.status_page import Link, figures_table, is_loopback, status_page
from service.http.application import TemplateRoute, build_app, route
from service.http.auth_failures import AuthFailureLimiter
from service.http.bearer_auth import StaticTokenAuth
from service.http.errors import JSON, unavailable
from service.http.health import ReadinessCheck, health_routes
from service.kafka.registry import RegistryReader
from service.kafka.tailer import TopicTailer
from service.kafka.topics import ensure_topics, topics_from, watch_topics
from service.metrics.exposition import exposition, head_response, negotiate
from service.metrics.requests import RequestMetrics
from service.tasks import cancel, critical_task, run_together


class Exporter:
    """The exporter's components; an async context manager that runs them.

    `requests` and `registry` are passed in if another service in the same process already has them;
    that service then also runs the registry's tailer. Every shard reads the registry, for its own
    check-ins; only the first exports its counts. `tailer_type` reads the state topic; tests
    pass in one that reads no Kafka.
    """

    def __init__(
        self,
        settings: ExporterSettings,
        *,
        requests: RequestMetrics | None = None,
        registry: RegistryReader | None = None,
        tailer_type: type[TopicTailer] = TopicTailer,
    ) -> None:
        shard = settings.shard
        served = shard.partitions(settings.kafka_partitions)
        self._settings = settings
        self.requests = requests or RequestMetrics(CollectorRegistry())
        self.metrics = ExporterMetrics(CollectorRegistry())

        self.store = StateStore(served, defer_rendering=True)
        self._receipts = ReceiptStatus(settings, self.store)
        self._barrier = ReadBarrier(served, settings.max_after_waiters, self._receipts.find)
        consumer = RowConsumer(
            self.store, self._barrier, self.metrics, lambda: self.row_tailer.caught_up
        )
        topics = topics_from(settings)
        self.row_tailer = tailer_type(
            settings,
            topics.entity_state.name,
            served,
            consumer.apply,
            self._render_deferred,
            gathers=True,
        )
        self.source_lag = SourceLagMonitor(settings, topics.submissions.name, self.store.ledgers)
        self._owns_registry = registry is None
        self._registry = registry or RegistryReader(settings)
        self.registry = self._registry if shard.is_first else None

        self._pipeline_registry = CollectorRegistry()
        retention = settings.submissions_retention_hours * 3600
        self._pipeline_registry.register(
            PipelineCollector(self.store.ledgers, self.source_lag, retention)
        )
        if self.registry:
            self._pipeline_registry.register(RegisteredCollector(self.registry.state))
        sources: list[TopicTailer | SourceLagMonitor] = [*self._tailers().values(), self.source_lag]
        self.metrics.registry.register(
            StateCollector(self.store, settings.max_series, self.row_tailer, sources)
        )
        registered = None if self.registry is None else self.registry.state
        self._fleet = FleetView(settings, self.store, self.row_tailer, self.source_lag, registered)
        self._check_token = StaticTokenAuth(settings.metrics_token, "metrics_token", self.requests)
        self._checkins = CheckinService(
            settings,
            self.store,
            self._registry,
            Freshness(self.store.ledgers, self.source_lag, self.row_tailer),
            self.source_lag,
            tailer_type,
            self.not_ready_reasons,
        )

    async def __aenter__(self) -> Self:
        self._task = critical_task(self._run(), "exporter")
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await cancel(self._task)

    async def _run(self) -> None:
        # Kafka may be unavailable at startup: health endpoints respond while this waits forever.
        await ensure_topics(self._settings, timeout=float("inf"))
        own_registry = [self._registry.tailer.run()] if self._owns_registry else []
        await run_together(
            self.row_tailer.run(),
            self.source_lag.run(),
            self._checkins.run(),
            watch_topics(self._settings),
            *own_registry,
        )

    async def _render_deferred(self) -> None:
        for _ in self.store.render_deferred():
            await asyncio.sleep(0)  # lets health requests run

    def _tailers(self) -> dict[str, TopicTailer]:
        return {"entity-state": self.row_tailer, "registry": self._registry.tailer}

    def not_caught_up(self) -> list[str]:
        """Return the names of topics not yet read up to their end at startup."""
        return [name for name, tailer in self._tailers().items() if not tailer.caught_up]

    async def not_ready_reasons(self) -> list[str]:
        """Return why the exporter is not ready; /metrics is served even if the reason
        is "kafka"."""
        reachable = all(tailer.is_reachable() for tailer in self._tailers().values())
        return ([] if reachable else ["kafka"]) + self.not_caught_up()

    def metrics_route(self, extra_registries: Sequence[CollectorRegistry] = ()) -> TemplateRoute:
        """Return the route `/metrics`: entities, pipeline, counts, and the `extra_registries`."""
        endpoint = ScrapeEndpoint(
            self._settings,
            self.store,
            self.source_lag,
            self._barrier,
            self.metrics,
            (self._pipeline_registry, *extra_registries),
        )

        async def metrics(request: Request) -> Response:
            self._check_token(request)
            return await endpoint.respond(request, self._check_caught_up)

        return route("/metrics", metrics, "GET")

    def fleet_route(self) -> TemplateRoute:
        """Return the route `/metrics/fleet`: totals and presence by group, in few series.

        With `?pipeline=true` the response includes the pipeline's metrics, for a Prometheus that
        does not scrape `/metrics`.
        """

        async def fleet(request: Request) -> Response:
            self._check_token(request)
            self._check_caught_up()
            await self._fleet.catch_up()
            if request.method == "HEAD":
                return head_response(negotiate(request))
            with_pipeline = request.query_params.get("pipeline") == "true"
            pipeline = (self._pipeline_registry,) if with_pipeline else ()
            return exposition(request, (self._fleet.registry, *pipeline))

        return route("/metrics/fleet", fleet, "GET")

    def _check_caught_up(self) -> None:
        """Raise unless all topics have been read up to their end at startup.

        Raises:
            ApiError: 503, a topic has not been read yet.
        """
        if missing := self.not_caught_up():
            raise unavailable("Not ready: waiting for " + ", ".join(missing))

    def api_routes(self) -> list[TemplateRoute]:
        """Return the routes of the ledger and of receipts."""

        async def ledger(request: Request) -> Response:
            self._check_token(request)
            self._check_caught_up()
            lag, missing = self.source_lag.lag(), self.source_lag.missing()
            return JSON(ledger_document(self.store.ledgers, lag, missing))

        async def receipt(request: Request) -> Response:
            self._check_token(request)
            wanted = parse_receipt(request.path_params["receipt"])
            self._check_caught_up()
            return JSON(await self._receipts.lookup(wanted))

        return [
            route("/api/v1/ledger", ledger, "GET"),
            route("/api/v1/receipts/{receipt}", receipt, "GET"),
        ]

    def checkin_routes(self) -> list[TemplateRoute]:
        """Return the routes of the check-in page and its API."""
        settings = self._settings
        failures = AuthFailureLimiter(self.requests, settings.auth_failures_per_minute)
        admin = None
        if settings.admin_token is not None:
            admin = StaticTokenAuth(settings.admin_token, "admin", self.requests, failures)
        return CheckinRoutes(
            self._checkins,
            Sessions(settings.metrics_token, settings.checkins_session_hours * 3600),
            StaticTokenAuth(settings.metrics_token, "metrics_token", self.requests, failures),
            admin,
            self._check_caught_up,
        ).routes()

    def own_metrics_route(self) -> TemplateRoute:
        """Return the route `/-/metrics`: the exporter's own metrics."""

        async def own_metrics(request: Request) -> Response:
            self._check_token(request)
            registries = (self.metrics.registry, self.requests.registry)
            return exposition(request, registries)

        return route("/-/metrics", own_metrics, "GET")

    def status_route(self, reasons: ReadinessCheck, links: Sequence[Link]) -> TemplateRoute:
        """Return the route `/`: links, and current figures if only this machine can connect."""
        is_local = is_loopback(self._settings.host)
        registered = self.registry.state if self.registry else None

        async def page(_: Request) -> Response:
            figures = figures_table(self.store, registered, self.row_tailer) if is_local else ""
            return status_page(await reasons(), figures, links)

        return route("/", page, "GET")

    def app(self) -> Starlette:
        """Return the exporter as an ASGI application."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with self:
                yield

        return build_app(
            [
                self.metrics_route(),
                self.fleet_route(),
                *self.api_routes(),
                *self.checkin_routes(),
                self.own_metrics_route(),
                self.status_route(self.not_ready_reasons, LINKS),
                *health_routes(self.not_ready_reasons),
            ],
            self.requests,
            lifespan,
        )


LINKS = (
    Link("/checkins", "which clients and headends check in (sign in with METRICS_TOKEN)"),
    Link("/metrics", "metrics of all clients and headends (METRICS_TOKEN)", in_browsers=False),
    Link(
        "/metrics/fleet",
        "metrics of the whole fleet in few series (METRICS_TOKEN)",
        in_browsers=False,
    ),
    Link("/-/metrics", "the exporter's own metrics (METRICS_TOKEN)", in_browsers=False),
    Link("/-/ready", "readiness, with the reasons if not ready"),
    Link("/-/healthy", "liveness"),
)
