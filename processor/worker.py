"""The worker process: Faust's worker with this project's logging, HTTP server and producers."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import mode
import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from processor.app import Processor
from processor.membership import hang_watchdog
from processor.membership.fencing import NameGuard
from processor.membership.leave_group import leave_group
from processor.settings import ProcessorSettings
from service.config.settings import SettingsError
from service.http.application import build_app, route
from service.http.bearer_auth import StaticTokenAuth
from service.http.health import health_routes
from service.http.server import serving
from service.kafka.clients import RECONNECT_DELAY, admin_client, when_reachable
from service.kafka.leaders import wait_for_leaders
from service.kafka.topics import ensure_topics, watch_topics
from service.metrics.exposition import exposition
from service.metrics.requests import RequestMetrics
from service.tasks import abort, abort_misconfigured, cancel, critical_task

log = structlog.get_logger(__name__)

STOP_TIMEOUT = 2.0
"""Seconds to write the remaining records and to leave the group, as Kafka may be unavailable."""


class RuntimeService(mode.Service):
    """Runs what must start before Faust and stop after it."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    def __init__(self, processor: Processor, app: Starlette, port: socket.socket) -> None:
        super().__init__()
        self._processor = processor
        self._app = app
        self._port = port
        self._stack = contextlib.AsyncExitStack()
        self._background: list[asyncio.Task[None]] = []

    async def on_start(self) -> None:
        processor = self._processor
        await self._stack.enter_async_context(serving(self._app, processor.settings, self._port))
        if (await self.wait(self._prepare())).stopped:
            return
        self._background = [
            critical_task(processor.watchdog.run(), "stall watchdog"),
            critical_task(processor.expiry.run(), "expiry"),
            critical_task(processor.gap_skipper.run(), "gap skipper"),
            critical_task(processor.expiry.watch(), "changelog watch"),
            critical_task(processor.anomalies.run(), "anomalies"),
            critical_task(processor.evidence.run(), "evidence"),
            critical_task(processor.renewal.run(), "evidence renewal"),
            critical_task(processor.pauser.run(), "pauser"),
            critical_task(processor.source.run(), "source"),
            critical_task(processor.stuck_monitor.run(), "stuck monitor"),
            critical_task(watch_topics(processor.settings), "topics"),
            critical_task(processor.membership.run(), "membership"),
            critical_task(hang_watchdog.run(), "hang watchdog"),
        ]

    async def _prepare(self) -> None:
        try:
            await prepare(self._processor.settings, self._on_leaderless)
            await self._start_changelog()
        except SettingsError as error:
            abort_misconfigured(error)
        except Exception as error:  # Faust would continue without it
            abort("cannot start", reason=repr(error), exc_info=error)

    async def _start_changelog(self) -> None:
        """Start the producer; Kafka may have stopped since it was found."""
        while True:
            try:
                await self._processor.changelog.start()
                return
            except KafkaConnectionError as error:
                log.warning("waiting for Kafka", reason=repr(error))
            await asyncio.sleep(RECONNECT_DELAY)

    def _on_leaderless(self, partitions: list[int]) -> None:
        self._processor.without_leader = partitions

    async def on_stop(self) -> None:
        await cancel(*self._background)
        await self._stack.aclose()
        processor = self._processor
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await processor.changelog.stop()
                if processor.heartbeat.member:
                    settings = processor.settings
                    await leave_group(settings, settings.group, processor.heartbeat.member)


def http_app(
    processor: Processor, settings: ProcessorSettings, registry: CollectorRegistry
) -> Starlette:
    """Return the worker's HTTP application: health endpoints and metrics."""
    requests = RequestMetrics(registry)
    check_token = StaticTokenAuth(settings.metrics_token, "metrics_token", requests)

    async def not_ready_reasons() -> list[str]:
        return processor.not_ready_reasons()

    async def metrics(request: Request) -> Response:
        check_token(request)
        return exposition(request, [registry])

    routes = health_routes(not_ready_reasons, processor.stuck_monitor.faults)
    return build_app([*routes, route("/metrics", metrics, "GET")], requests)


async def prepare(settings: ProcessorSettings, on_leaderless: Callable[[list[int]], None]) -> None:
    """Wait for everything that a worker needs before it joins its group.

    These are the topics; a leader of every changelog partition, since any may be assigned; and the
    group coordinator, which a new broker lacks at first.
    """
    topics = await ensure_topics(settings, timeout=float("inf"))
    await wait_for_leaders(
        settings, topics.entity_state.name, range(settings.kafka_partitions), on_leaderless
    )
    async with when_reachable(lambda: admin_client(settings)) as admin:
        while True:
            try:
                await NameGuard(settings).warn_of_predecessor(admin)
                return
            except KafkaError as error:
                log.info("waiting for the group coordinator", reason=repr(error))
                await asyncio.sleep(0.5)
