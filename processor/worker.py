"""The worker process: Faust's worker, with our logs, our HTTP server and our writer beneath it."""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import faust
import mode
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from processor import hang_watchdog
from processor.app import Processor, prepare
from processor.farewell import leave
from processor.settings import ProcessorSettings
from service.bearer import TokenCheck
from service.exposition import exposition
from service.health import health_routes
from service.http import build_app, route
from service.kafka import watch_topics
from service.requests import RequestMetrics
from service.server import serving
from service.settings import SettingsError
from service.tasks import cancel, die, misconfigured, vital

STOP_PATIENCE = 2.0
"""Seconds to write the rest and to leave the group: Kafka may be away."""


class Ground(mode.Service):
    """What must run before Faust starts and after it has stopped."""

    logger = logging.getLogger("mode")  # where Faust tells of starts and stops

    def __init__(self, processor: Processor, app: Starlette, port: socket.socket) -> None:
        super().__init__()
        self._processor = processor
        self._app = app
        self._port = port
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def on_start(self) -> None:
        processor = self._processor
        await self._stack.enter_async_context(serving(self._app, processor.settings, self._port))
        if (await self.wait(self._prepare())).stopped:
            return
        self._tasks = [
            vital(processor.lease.run(), "lease"),
            vital(processor.sweeper.run(), "sweep"),
            vital(processor.gap_skipper.run(), "gaps"),
            vital(processor.sweeper.watch(), "watch"),
            vital(processor.anomalies.run(), "anomalies"),
            vital(processor.stops.run(), "stops"),
            vital(processor.source.run(), "source"),
            vital(processor.liveness.run(), "liveness"),
            vital(watch_topics(processor.settings), "topics"),
            vital(processor.membership.run(), "membership"),
            vital(hang_watchdog.run(), "hang watchdog"),
        ]

    async def _prepare(self) -> None:
        try:
            await prepare(self._processor.settings)
            await self._processor.writer.start()
        except SettingsError as error:
            misconfigured(error)
        except Exception as error:  # Faust would start without it
            die("cannot start", reason=repr(error), exc_info=error)

    async def on_stop(self) -> None:
        await cancel(*self._tasks)
        await self._stack.aclose()
        processor = self._processor
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_PATIENCE):
                await processor.writer.stop()
                if processor.heartbeat.member:
                    settings = processor.settings
                    await leave(settings, settings.group, processor.heartbeat.member)


class Worker(faust.Worker):
    """Faust's worker without its logging set-up (`service.logs` has done that) and its spinner."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spinner = None

    def _setup_logging(self) -> None:
        pass


def http_app(
    processor: Processor, settings: ProcessorSettings, registry: CollectorRegistry
) -> Starlette:
    """The worker's own HTTP interface: health, and its metrics."""
    requests = RequestMetrics(registry)
    check_token = TokenCheck(settings.metrics_token, "metrics_token", requests)

    async def waiting_for() -> list[str]:
        return processor.waiting_for()

    async def metrics(request: Request) -> Response:
        check_token(request)
        return exposition(request, [registry])

    routes = health_routes(waiting_for, processor.liveness.faults)
    return build_app([*routes, route("/metrics", metrics, "GET")], requests)
