"""Running an application on uvicorn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.settings import HttpSettings

GRACE = 4
"""Seconds that requests in flight get at a stop."""


class _Server(uvicorn.Server):
    """A server inside a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _MainServer(uvicorn.Server):
    """A server whose process ends with status 0 when a signal stops it: that is no failure."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # uvicorn would raise them again at the end


def server_config(app: ASGIApp, settings: HttpSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_graceful_shutdown=GRACE,
    )


def run(app: ASGIApp, settings: HttpSettings) -> None:
    """Serve until SIGTERM or SIGINT; the process's main call."""
    _MainServer(server_config(app, settings)).run()


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, settings: HttpSettings) -> AsyncIterator[None]:
    """Serve within a running event loop, for as long as the context lasts."""
    server = _Server(server_config(app, settings))
    task = asyncio.create_task(server.serve(), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task
