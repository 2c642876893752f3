"""Runs an application on uvicorn."""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.config.settings import HttpSettings, HttpsSettings, SettingsError
from service.gc_tuning import freeze_startup_objects
from service.http.connection.protocol import LimitedProtocol
from service.http.tls import ServerCertificate
from service.http.uvicorn_compat import STARTUP_FAILURE, forget_signals
from service.tasks import EXIT_SOFTWARE_ERROR, critical_task

GRACE_SECONDS = 4
"""Default seconds that a stop waits for requests in flight."""
BACKLOG = 2048
"""Maximum number of connections that wait to be accepted."""
RESERVED_FILES = 200
"""Open files reserved for other uses than connections, mainly Kafka."""
EXIT_INTERRUPTED = 130
MANAGER_HEADER = ("tobogganing-service", "manager")
"""Every response of an application carries this header. Agents discard a sample only on a response
with it: a 400 or 413 from a proxy, a firewall or a captive portal makes no statement about the
sample. Responses to invalid HTTP omit it for the same reason."""


class _Server(uvicorn.Server):
    """A server that notifies its application when a stop begins (service.http.application)."""

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        grace: int = GRACE_SECONDS,
    ) -> None:
        self._certificate = _certificate(settings)
        super().__init__(server_config(app, settings, grace, self._certificate))
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._certificate:
            self._tasks.append(critical_task(self._certificate.follow(), "certificate"))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        on_stop = getattr(self.config.app, "on_stop", None)
        if on_stop is not None:
            on_stop()
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)


class _EmbeddedServer(_Server):
    """A server in a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _ProcessServer(_Server):
    """A server whose process exits with status 0 when a signal stops it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        freeze_startup_objects()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            # Second Ctrl-C. Submissions in flight may still be applied, so no response would be
            # correct.
            os._exit(EXIT_INTERRUPTED)
        super().handle_exit(sig, frame)
        forget_signals(self)  # the process ends with status 0


def server_config(
    app: ASGIApp,
    settings: HttpSettings,
    grace: int = GRACE_SECONDS,
    certificate: ServerCertificate | None = None,
) -> uvicorn.Config:
    """Configure a server; `grace` is the number of seconds that a stop waits for requests in
    flight."""
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
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
    )


def _certificate(settings: HttpSettings) -> ServerCertificate | None:
    """The certificate of a service that terminates TLS itself.

    Raises:
        SettingsError: its files have become invalid since the settings were checked.
    """
    if not isinstance(settings, HttpsSettings) or settings.tls_certificate is None:
        return None
    try:
        return ServerCertificate(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise SettingsError(f"TLS_CERTIFICATE={settings.tls_certificate}: {error}") from error


def run(
    app: ASGIApp,
    settings: HttpSettings,
    grace: int = GRACE_SECONDS,
    port: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, on `port` if it is already open. Blocks.

    Raises:
        SettingsError: the port cannot be opened.
    """
    limit_connections(LimitedProtocol)
    with port or listen(settings) as opened:
        try:
            _ProcessServer(app, settings, grace).run([opened])
        except SystemExit as error:  # uvicorn's, if the lifespan failed
            sys.exit(EXIT_SOFTWARE_ERROR if error.code == STARTUP_FAILURE else error.code)


def listen(settings: HttpSettings) -> socket.socket:
    """Open the port; connections wait until they are accepted.

    Raises:
        SettingsError: the port cannot be opened; the message gives the reason.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # `::` is every address of the machine, those of IPv4 included, as with other servers.
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise SettingsError(listen_fault(host, port, error)) from error


def listen_fault(host: str, port: int, error: OSError) -> str:
    """Return which setting is wrong when a port cannot be opened."""
    if error.errno is not None and error.errno < 0:  # from getaddrinfo
        return f"HOST={host} cannot be resolved"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"PORT={port} is in use on {host}: stop the program that listens there, or choose "
                "another PORT"
            )
        case errno.EACCES | errno.EPERM:
            return f"PORT={port} may not be opened by this user: choose a port from 1024"
        case errno.EADDRNOTAVAIL:
            return f"HOST={host} is not an address of this machine"
    return f"HOST={host} PORT={port} cannot be opened: {os.strerror(error.errno or 0)}"


def limit_connections(protocol: type[LimitedProtocol]) -> None:
    """Limit the number of connections by the number of open files, with some reserved."""
    files = raise_file_limit(protocol.max_connections + RESERVED_FILES)
    protocol.max_connections = max(1, min(protocol.max_connections, files - RESERVED_FILES))


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, or as far as permitted; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    permitted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < permitted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (permitted, hard))
        return permitted
    return wanted if soft == resource.RLIM_INFINITY else soft


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, settings: HttpSettings, port: socket.socket | None = None
) -> AsyncIterator[None]:
    """Serve within a running event loop until the context ends, on `port` if it is already open.

    Raises:
        SettingsError: the port cannot be opened.
    """
    limit_connections(LimitedProtocol)
    server = _EmbeddedServer(app, settings)
    task = asyncio.create_task(server.serve([port or listen(settings)]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task
