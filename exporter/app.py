"""The exporter, from Kafka to Prometheus.

    entity-state --follower--> store (kept lines, ledgers) --\\
    registry ----reader------> counts ------------------------+--> /metrics
    submissions --ends-------> lag ---------------------------+
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from exporter.after import Coverage, parse_receipts
from exporter.follow import Intake
from exporter.lag import SourceEnds
from exporter.metrics import ExporterMetrics, PipelineCollector, RegisteredCollector, StateCollector
from exporter.pages import Link, front_page, is_loopback, numbers
from exporter.scrapes import Scrapes
from exporter.settings import ExporterSettings
from exporter.store import StateStore
from service.bearer import TokenCheck
from service.exposition import Wanted, exposition, negotiate, packed_response, render
from service.health import Reasons, health_routes
from service.http import TemplateRoute, build_app, route, unavailable
from service.kafka import ensure_topics, topics_of
from service.reader import TopicFollower
from service.registry import RegistryReader
from service.requests import RequestMetrics
from service.tasks import cancel, vital


class Exporter:
    """The exporter's parts; an async context manager, in which they run.

    `requests` and `registry` are handed in where another service of the same process has them:
    the registry is then followed by whoever made it.
    """

    def __init__(
        self,
        settings: ExporterSettings,
        *,
        requests: RequestMetrics | None = None,
        registry: RegistryReader | None = None,
        partitions: Iterable[int] | None = None,
    ) -> None:
        served = tuple(range(settings.kafka_partitions) if partitions is None else partitions)
        self._settings = settings
        self.requests = requests or RequestMetrics(CollectorRegistry())
        self.metrics = ExporterMetrics(CollectorRegistry())

        self.store = StateStore(served)
        self._coverage = Coverage(served, settings.max_after_waiters)
        intake = Intake(self.store, self._coverage, self.metrics, lambda: self.state.caught_up)
        topics = topics_of(settings)
        self.state = TopicFollower(settings, topics.entity_state.name, served, intake.take)
        self.source = SourceEnds(settings, topics.submissions.name, served)
        self.registry = registry or RegistryReader(settings)
        self._follows_registry = registry is None

        self._counts = CollectorRegistry()
        self._counts.register(PipelineCollector(self.store.ledgers, self.source))
        self._counts.register(RegisteredCollector(self.registry.state))
        self.metrics.registry.register(
            StateCollector(self.store, self.state, (self.registry.follower, self.source))
        )
        self._check_token = TokenCheck(settings.metrics_token, "metrics_token", self.requests)

    async def __aenter__(self) -> Self:
        self._task = vital(self._run(), "exporter")
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await cancel(self._task)

    async def _run(self) -> None:
        # Health is answered while Kafka is away, so a start waits for ever.
        await ensure_topics(self._settings, patience=float("inf"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.state.run())
            tasks.create_task(self.source.run())
            if self._follows_registry:
                tasks.create_task(self.registry.follower.run())

    def not_caught_up(self) -> list[str]:
        """Name what has not been read to where it ended when the exporter started."""
        followers = {"entity-state": self.state, "registry": self.registry.follower}
        return [name for name, follower in followers.items() if not follower.caught_up]

    async def waiting_for(self) -> list[str]:
        """Name what keeps the exporter from being ready; a scrape is served without "kafka"."""
        reachable = self.state.is_reachable() and self.registry.follower.is_reachable()
        return ([] if reachable else ["kafka"]) + self.not_caught_up()

    def metrics_route(self, beside: Sequence[CollectorRegistry] = ()) -> TemplateRoute:
        """`/metrics`: entities, pipeline, counts, and the registries `beside` them."""
        scrapes = Scrapes(lambda wanted: self._render(wanted, (self._counts, *beside)))

        async def metrics(request: Request) -> Response:
            self._check_token(request)
            receipts = parse_receipts(request.query_params.getlist("after"))
            await self._coverage.reach(receipts, self._settings.after_timeout_seconds)
            if missing := self.not_caught_up():
                raise unavailable("Not ready: waiting for " + ", ".join(missing))
            wanted = negotiate(request)
            return packed_response(wanted, await scrapes.body(wanted))

        return route("/metrics", metrics, "GET")

    def own_metrics_route(self) -> TemplateRoute:
        """`/-/metrics`: the exporter's own families, where it runs alone."""

        async def own_metrics(request: Request) -> Response:
            self._check_token(request)
            registries = (self.metrics.registry, self.requests.registry)
            return exposition(request, registries)

        return route("/-/metrics", own_metrics, "GET")

    def front_route(self, reasons: Reasons, links: Sequence[Link]) -> TemplateRoute:
        """`/`: the page with links; with live numbers where only this machine can ask."""
        shown = self if is_loopback(self._settings.host) else None

        async def front(_: Request) -> Response:
            figures = numbers(shown.store, shown.registry.state, shown.state) if shown else ""
            return front_page(await reasons(), figures, links)

        return route("/", front, "GET")

    def app(self) -> Starlette:
        """The exporter as a service of its own."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with self:
                yield

        return build_app(
            [
                self.metrics_route(),
                self.own_metrics_route(),
                self.front_route(self.waiting_for, LINKS),
                *health_routes(self.waiting_for),
            ],
            self.requests,
            lifespan,
        )

    def _render(self, wanted: Wanted, registries: Sequence[CollectorRegistry]) -> bytes:
        """Render everything without an await in between, so that a scrape is one moment."""
        started = time.perf_counter()
        body = self.store.exposition() + render(wanted, registries)
        self.metrics.scrape_duration.observe(time.perf_counter() - started)
        self.metrics.scrape_size.set(len(body))
        return body


LINKS = (
    Link("/metrics", "every client and headend, for Prometheus (needs METRICS_TOKEN)"),
    Link("/-/metrics", "the exporter's own metrics (needs METRICS_TOKEN)"),
    Link("/-/ready", "ready, or what is waited for"),
    Link("/-/healthy", "alive"),
)
