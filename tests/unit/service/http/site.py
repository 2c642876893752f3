"""A server for tests of connections, and the client side of a connection."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import service.http.connection.server_limits
from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.application import build_app, route
from service.http.connection.fast_path import FastPathHandler
from service.http.errors import JSON
from service.http.server import serving
from service.metrics.requests import RequestMetrics
from tobogganing.devstack.ports import free_ports

KEEP_ALIVE = 2
"""Seconds for which a site keeps an idle connection."""
GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class RawConnection:
    """The client side of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send as much as the server accepts; the tests check how it closes the connection."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> tuple[int, object]:
        """Read the next response: its status and its JSON."""
        async with asyncio.timeout(5):
            header = await self.reader.readuntil(b"\r\n\r\n")
            length = header.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            body = await self.reader.readexactly(int(length))
        return int(header.split()[1]), json.loads(body)

    async def reset(self) -> None:
        """Reset the connection, instead of only closing the sending side."""
        at_once = struct.pack("ii", 1, 0)
        its_socket = self.writer.get_extra_info("socket")
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.writer.transport.abort()

    async def rest(self) -> bytes:
        """Read until the server closes, which happens KEEP_ALIVE after the last request."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""


@dataclass
class Site:
    """A server, with access to the state of its handlers."""

    port: int
    entered: asyncio.Semaphore
    go_on: asyncio.Event
    stop: Callable[[], Coroutine[Any, Any, None]]

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[RawConnection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        yield RawConnection(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def unread() -> list[int]:
    """Return the sizes of unread responses on all servers."""
    servers = service.http.connection.server_limits._by_server.values()
    return [size for each in servers for size in each.unread._sizes.values()]


def limit(monkeypatch: pytest.MonkeyPatch, budget: str, size: int) -> None:
    """Change a memory budget of all servers."""
    for limits in service.http.connection.server_limits._by_server.values():
        monkeypatch.setattr(getattr(limits, budget), "size", size)


def nothing_is_counted() -> bool:
    """Return whether no server counts any bytes, as after all requests have ended."""
    return all(
        (
            limits.buffered.reserved,
            limits.pending.reserved,
            limits.heads.reserved,
            limits.unread.size,
        )
        == (0, 0, 0, 0)
        for limits in service.http.connection.server_limits._by_server.values()
    )


async def start(stack: contextlib.AsyncExitStack, fast_path: FastPathHandler | None = None) -> Site:
    """Serve until the exit stack ends, or the site's `stop` is called."""
    entered, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def quick(_: Request) -> Response:
        return JSON({"quick": True})

    async def slow(_: Request) -> Response:
        entered.release()
        await go_on.wait()
        return JSON({"slow": True})

    async def take(request: Request) -> Response:
        entered.release()
        return JSON({"taken": len(await request.body())})

    async def large(_: Request) -> Response:
        return Response(b"x" * 32 * 1024 * 1024)

    async def stream(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        return StreamingResponse(parts())

    routes = [
        route("/large", large, "GET"),
        route("/stream", stream, "GET"),
        route("/quick", quick, "GET"),
        route("/slow", slow, "GET", "POST"),
        route("/take", take, "POST"),
    ]
    settings = HttpSettings(
        metrics_token=ReloadableTokens("m"),
        host="127.0.0.1",
        port=free_ports(1)[0],
        keep_alive_seconds=KEEP_ALIVE,
        log_level="WARNING",
    )
    app = build_app(routes, RequestMetrics(CollectorRegistry()), fast_path=fast_path)
    await stack.enter_async_context(serving(app, settings))
    site = Site(settings.port, entered, go_on, stack.aclose)
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(ConnectionError):
                async with site.connect() as connection:
                    await connection.send(GET)
                    assert await connection.answer() == (200, {"quick": True})
                    return site
