"""Running an application on uvicorn."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.collector import spare_collector
from service.protocol import LimitedProtocol
from service.settings import HttpSettings

GRACE = 4
"""Seconds that requests in flight get at a stop, where none of them needs more."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""
SPARE_FILES = 200
"""Open files that are kept for everything but connections: for Kafka above all."""
EXIT_INTERRUPTED = 130
MANAGER_HEADER = ("tobogganing-service", "manager")
"""Every response of an application carries this header. Agents discard a sample only on a response
that has it: a 400 or 413 of a proxy, a firewall or a captive portal says nothing about the sample.
Responses to bytes that are not a valid HTTP request do not have it, for the same reason."""


class _Server(uvicorn.Server):
    """A server inside a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _MainServer(uvicorn.Server):
    """A server whose process ends with status 0 when a signal stops it: that is no failure."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        spare_collector()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            # The second Ctrl-C. What is in flight may still count, so any answer could be untrue.
            os._exit(EXIT_INTERRUPTED)
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # uvicorn would raise them again at the end


def server_config(app: ASGIApp, settings: HttpSettings, grace: int = GRACE) -> uvicorn.Config:
    """Configure a server; `grace` is how long a stop waits for what is in flight, in seconds."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[MANAGER_HEADER],
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=grace,
    )


def run(
    app: ASGIApp,
    settings: HttpSettings,
    grace: int = GRACE,
    sockets: list[socket.socket] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, on sockets that listen already if any are given.

    The process's main call.
    """
    limit_connections(LimitedProtocol)
    _MainServer(server_config(app, settings, grace)).run(sockets)


def limit_connections(protocol: type[LimitedProtocol]) -> None:
    """Let there be as many connections as there can be files, with some to spare."""
    files = raise_file_limit(protocol.max_connections + SPARE_FILES)
    protocol.max_connections = max(1, min(protocol.max_connections, files - SPARE_FILES))


def raise_file_limit(wanted: int) -> int:
    """Let this process open `wanted` files, or as many as the system lets it; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft


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
