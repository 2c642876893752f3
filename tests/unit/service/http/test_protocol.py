"""Limits of a connection and errors of HTTP itself, tested through sockets."""

import asyncio
import contextlib
import gc
import json
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.connection.protocol import LimitedProtocol
from service.http.server import RESERVED_FILES, limit_connections, raise_file_limit, serving
from tests.unit.service.http.site import (
    CHUNKED,
    GET,
    KEEP_ALIVE,
    SLOW,
    Site,
    limit,
    nothing_is_counted,
    start,
    unread,
    until,
)
from tobogganing.devstack.ports import free_ports


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with contextlib.AsyncExitStack() as stack:
        yield await start(stack)
    assert nothing_is_counted()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> float:
    """Set the header timeout to 0.4 s instead of 10."""
    monkeypatch.setattr(LimitedProtocol, "header_timeout", 0.4)
    return 0.4


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


LARGE = b"a" * 70_000
MANY = b"".join(b"X-%d: b\r\n" % number for number in range(5_000))


@pytest.mark.parametrize("size", [1_000, 1_000_000], ids=["in pieces", "at once"])
@pytest.mark.parametrize(
    "request_",
    [
        b"GET /quick HTTP/1.1\r\nHost: x\r\nX: " + LARGE + b"\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: x\r\nX: " + LARGE,
        b"GET /quick HTTP/1.1\r\nHost: x\r\n" + MANY + b"\r\n",
        b"GET /quick?" + LARGE + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        CHUNKED + b"1\r\na\r\n0\r\nX: " + 5 * LARGE,
    ],
    ids=["a header", "one without an end", "many", "the path", "after the body"],
)
async def test_a_large_header_is_431(site: Site, request_: bytes, size: int) -> None:
    async with site.connect() as connection:
        for piece in pieces(request_, size):
            await connection.send(piece)
        status, body = await connection.answer()
        assert (status, body) == (431, {"error": "The header is larger than 65536 bytes"})
        assert await connection.rest() == b""


async def test_requests_within_the_limits_are_accepted_in_any_segmentation(site: Site) -> None:
    header = b"GET /quick HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60_000 + b"\r\n\r\n"
    body = b"b" * 500_000
    post = b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with site.connect() as connection:
        for size in (10_000, 1_000_000):
            for piece in pieces(header + post + GET, size):
                await connection.send(piece)
            assert await connection.answer() == (200, {"quick": True})
            assert await connection.answer() == (200, {"taken": len(body)})
            assert await connection.answer() == (200, {"quick": True})


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"", b""),
        (b"GET /quick HTTP/1.1\r\nHost:", b""),
        (b"GET /quick HTTP/1.1\r\nHost:", b"x"),
        (b"GET /quick HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
    ],
    ids=["silence", "half", "letters", "headers"],
)
@pytest.mark.parametrize("first", [b"", GET], ids=["first request", "second request"])
async def test_an_endless_header_closes_the_connection(
    site: Site, hurried: float, first: bytes, begin: bytes, drip: bytes
) -> None:
    async with site.connect() as connection:
        if first:
            await connection.send(first)
            await connection.answer()
        began = time.monotonic()
        await connection.send(begin)
        ended = asyncio.create_task(connection.rest())
        while not ended.done():
            assert time.monotonic() - began < hurried + KEEP_ALIVE + 1, "the header never ends"
            if drip:
                await connection.send(drip)
            await asyncio.wait([ended], timeout=0.05)
        assert time.monotonic() - began > hurried / 2
        assert ended.result() == b""


async def test_a_response_may_take_longer_than_the_header_timeout(
    site: Site, hurried: float
) -> None:
    async with site.connect() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await site.entered.acquire()
        asyncio.get_running_loop().call_later(2 * hurried, site.go_on.set)
        assert await connection.answer() == (200, {"slow": True})
        await connection.send(GET)
        assert await connection.answer() == (200, {"quick": True})


@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT /quick HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        CHUNKED + b"zz\r\n",
    ],
    ids=["tunnel", "TLS", "path", "lengths", "chunk"],
)
async def test_invalid_http_is_400_in_json(site: Site, request_: bytes) -> None:
    async with site.connect() as connection:
        await connection.send(request_)
        status, body = await connection.answer()
        assert status == 400
        assert isinstance(body, dict)
        assert list(body) == ["error"]
        assert await connection.rest() == b""


@pytest.mark.parametrize("rubbish", [b"FOO\r\n\r\n", b"POST /take HTTP/1.1\r\nHost: x\r\n", b""])
async def test_complete_requests_are_answered_despite_later_garbage_or_eof(
    site: Site, rubbish: bytes
) -> None:
    async with site.connect() as connection:
        await connection.send(SLOW + 2 * GET + rubbish)
        connection.writer.write_eof()
        await site.entered.acquire()
        site.go_on.set()
        assert await connection.answer() == (200, {"slow": True})
        assert await connection.answer() == (200, {"quick": True})
        assert await connection.answer() == (200, {"quick": True})
        last = await connection.rest()
        assert last.startswith(b"HTTP/1.1 400 ") if rubbish == b"FOO\r\n\r\n" else last == b""


@pytest.fixture
def two_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedProtocol, "max_connections", 2)


async def test_connections_are_bounded(site: Site, two_at_most: None) -> None:
    async with site.connect() as first, site.connect() as second:
        for connection in (first, second):
            await connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await site.entered.acquire()
        async with site.connect() as third:
            answer = await third.rest()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in answer
            assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])
        site.go_on.set()
        for connection in (first, second):
            assert await connection.answer() == (200, {"slow": True})
        async with site.connect() as another:
            await another.send(GET)
            assert await another.answer() == (200, {"quick": True})


@pytest.mark.parametrize("sent", [b"", GET[:-4]], ids=["idle", "half"])
async def test_beyond_the_limit_the_longest_idle_connection_is_closed(
    site: Site, two_at_most: None, sent: bytes
) -> None:
    async with site.connect() as idler:
        await idler.send(sent)
        async with site.connect() as second:
            for _ in range(3):
                await second.send(GET)
                assert await second.answer() == (200, {"quick": True})
            async with site.connect() as third:
                await third.send(GET)
                assert await third.answer() == (200, {"quick": True})
                assert await idler.rest() == b""
                for connection in (second, third):
                    await connection.send(GET)
                    assert await connection.answer() == (200, {"quick": True})


async def test_pipelining_is_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedProtocol, "max_pipelined", 3)
    async with site.connect() as connection:
        post = b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        await connection.send(SLOW + 2 * post + GET + 5_000 * post + b"rubbish")
        await site.entered.acquire()
        site.go_on.set()
        assert await connection.answer() == (200, {"slow": True})
        for _ in range(2):
            assert await connection.answer() == (200, {"taken": 3})
        last = await connection.rest()
        assert last.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in last
        assert last.endswith(b'\r\n\r\n{"quick":true}')


LONG = b"GET /slow HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60_000 + b"\r\n\r\n"
FULL = (503, {"error": "Too much data is being received: try again"})


@pytest.mark.parametrize(
    "sent",
    [LONG, LONG[:-2], SLOW + 1_500 * GET],
    ids=["being answered", "begun", "pipelined"],
)
async def test_the_memory_of_heads_is_bounded_for_all_connections(
    site: Site, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, "heads", 100_000)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(site.connect())
        await first.send(GET)
        await first.answer()
        (limits,) = {
            each._limits
            for each in gc.get_objects()
            if isinstance(each, LimitedProtocol) and not each._input_ended
        }
        await first.send(sent)
        await until(lambda: limits.heads.reserved > 30_000)
        for _ in range(2):
            second = await stack.enter_async_context(site.connect())
            await second.send(LONG[:-2] + b"Y: " + b"b" * 1_000 + b"\r\n")
        async with site.connect() as third:
            await third.send(LONG)
            assert await third.answer() == FULL
            assert await third.rest() == b""
        async with site.connect() as small:
            await small.send(GET)
            assert await small.answer() == (200, {"quick": True})
        site.go_on.set()
    await until(lambda: limits.heads.reserved == 0)


async def test_headers_of_completed_requests_are_released(site: Site) -> None:
    """There may be many idle connections."""
    async with site.connect() as connection:
        site.go_on.set()
        await connection.send(LONG)
        assert await connection.answer() == (200, {"slow": True})
        await until(lambda: b"a" * 60_000 not in _values())


def _values() -> list[bytes]:
    """Header values of requests that are still in memory."""
    headers = [each for each in gc.get_objects() if type(each) is tuple and len(each) == 2]
    return [value for name, value in headers if name == b"x" and type(value) is bytes]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_response_before_100_continue_closes_the_connection(
    site: Site, method: bytes
) -> None:
    """The client may send the body or not, so the body could be mistaken for a request."""
    async with site.connect() as connection:
        head = (
            b" /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        )
        await connection.send(method + head % len(GET))
        answer = await connection.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"\r\nconnection: close\r\n" in answer
        await connection.send(GET + GET)
        assert b"HTTP/1.1 " not in await connection.rest()


async def test_a_body_sent_without_waiting_for_100_keeps_the_connection(site: Site) -> None:
    async with site.connect() as connection:
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        await connection.send(head + b"Content-Length: 3\r\n\r\nabc" + GET)
        assert (await connection.answer())[0] == 404
        assert await connection.answer() == (200, {"quick": True})


async def test_a_client_of_http_1_0_gets_neither_100_nor_chunks(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(
            b"POST /take HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert await connection.answer() == (200, {"taken": 3})
        assert await connection.rest() == b""
    async with site.connect() as connection:
        await connection.send(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert body == b"onetwo"
    async with site.connect() as connection:
        await connection.send(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await connection.rest()).endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /quick HTTP/1.1\r\nHost: x\r\nX: " + 700_000 * b"a", b"431"),
        (b"FOO\r\n\r\n" + 700_000 * b"a", b"400"),
        (CHUNKED + b"zz\r\n" + 700_000 * b"a", b"400"),
        (b"POST /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
         b"Content-Length: 700000\r\n\r\n" + 700_000 * b"a", b"405"),
    ],
    ids=["431", "400", "chunk", "a response before the body"],
)  # fmt: skip
async def test_the_client_gets_the_response_despite_unread_input(
    site: Site, request_: bytes, status: bytes
) -> None:
    """The system resets a connection that is closed with unread input, and the client may lose
    data."""
    async with site.connect() as connection:
        connection.writer.write(request_)
        await connection.writer.drain()  # raises after a reset
        answer = await connection.reader.read()
        assert answer.startswith(b"HTTP/1.1 " + status)


async def test_a_refused_connection_is_closed(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(b"FOO\r\n\r\n")
        assert (await connection.answer())[0] == 400
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 10:
                connection.writer.write(b"x")
                await connection.writer.drain()
                await asyncio.sleep(0.05)
        assert time.monotonic() - began < LimitedProtocol.linger + 2


async def test_a_waiting_request_is_notified_of_a_disconnect(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(SLOW)
        await site.entered.acquire()
        (active,) = [
            each._active
            for each in gc.get_objects()
            if isinstance(each, LimitedProtocol) and each._active is not None
        ]
        await connection.reset()
        await until(lambda: active.disconnected)
        site.go_on.set()


async def test_pipelined_input_is_read_after_the_previous_response(site: Site) -> None:
    """However much it is: each response admits the next request."""
    body = b"b" * 300_000
    head = b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    posts = 20 * (head + body)
    async with site.connect() as connection:
        sending = asyncio.create_task(connection.send(posts))
        for _ in range(20):
            assert await connection.answer() == (200, {"taken": len(body)})
        await sending


async def test_an_upgrade_header_is_ignored(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with site.connect() as connection:
        with caplog.at_level(logging.DEBUG):
            offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            await connection.send(GET[:-2] + offer + b"\r\n")
            assert await connection.answer() == (200, {"quick": True})
        assert "pgrade" not in caplog.text


@pytest.mark.parametrize(
    "path", ["/%71uick", "//quick", "/x/../quick", "/QUICK", "/quick/", "/quick%2F"]
)
async def test_paths_are_not_decoded(site: Site, path: str) -> None:
    """Otherwise a path that a proxy routes or denies could be reached under another spelling."""
    async with site.connect() as connection:
        for prefix in ("", "http://x"):
            await connection.send(GET.replace(b"/quick", prefix.encode() + path.encode()))
            assert (await connection.answer())[0] == 404


@pytest.mark.parametrize("target", ["http://x/quick", "HTTP://x:80/quick", "https://[::1]/quick?y"])
async def test_an_absolute_target_is_reduced_to_its_path(site: Site, target: str) -> None:
    async with site.connect() as connection:
        await connection.send(GET.replace(b"/quick", target.encode()))
        assert await connection.answer() == (200, {"quick": True})


async def test_an_idle_connection_has_the_keep_alive_timeout(site: Site, hurried: float) -> None:
    async with site.connect() as connection:
        await connection.send(GET)
        await connection.answer()
        began = time.monotonic()
        assert await connection.rest() == b""
        assert KEEP_ALIVE - 0.2 < time.monotonic() - began < KEEP_ALIVE + 2


async def until_it_does_not_listen(site: Site) -> None:
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while True:
                async with site.connect():
                    await asyncio.sleep(0)


async def test_a_stop_completes_a_request_that_was_on_its_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LimitedProtocol, "shutdown_timeout", 5.0)
    async with site.connect() as kept, site.connect() as new, site.connect() as silent:
        await kept.send(GET)
        assert await kept.answer() == (200, {"quick": True})
        stopping = asyncio.create_task(site.stop())
        await until_it_does_not_listen(site)
        for connection in (kept, new):
            await connection.send(GET * 2)
            assert await connection.answer() == (200, {"quick": True})
            assert await connection.rest() == b"", "one more request, not two"
        assert not stopping.done()
        silent.writer.close()
        await stopping


async def test_a_stop_waits_a_limited_time_for_requests_on_their_way(site: Site) -> None:
    async with site.connect() as kept, site.connect() as new:
        await kept.send(GET)
        assert await kept.answer() == (200, {"quick": True})
        began = time.monotonic()
        stopping = asyncio.create_task(site.stop())
        await until_it_does_not_listen(site)
        for connection in (kept, new):
            await connection.send(GET[:20])
        await asyncio.gather(kept.rest(), new.rest(), stopping)
        assert LimitedProtocol.shutdown_timeout <= time.monotonic() - began < 3


async def test_a_stop_completes_the_active_request_only(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        await site.entered.acquire()
        stopping = asyncio.create_task(site.stop())
        await until_it_does_not_listen(site)
        site.go_on.set()
        assert await connection.answer() == (200, {"slow": True})
        assert await connection.rest() == b""
        began = time.monotonic()
        await stopping
        assert time.monotonic() - began < 2
        assert site.entered.locked(), "the second request has started"


async def test_an_unread_response_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost: asyncio.Queue[Any] = asyncio.Queue()

    class Noting(LimitedProtocol):
        write_timeout = 0.4

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.put_nowait(self.client)

    monkeypatch.setattr("service.http.server.LimitedProtocol", Noting)
    async with contextlib.AsyncExitStack() as stack:
        other = await start(stack)
        with socket.create_connection(("127.0.0.1", other.port)) as idler:
            idler.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(10):
                while await lost.get() != idler.getsockname():
                    pass


LARGE_RESPONSE = 32 * 1024 * 1024
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_beyond_the_limit_of_unread_bytes_the_oldest_connection_is_aborted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "service.http.connection.server_limits.MAX_UNREAD_BYTES", 2 * LARGE_RESPONSE
    )
    async with site.connect() as oldest, site.connect() as older, site.connect() as newest:
        for count, connection in enumerate((oldest, older), 1):
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await connection.send(GET_LARGE)
            await until(lambda n=count: len(unread()) == n)  # type: ignore[misc]
        await newest.send(GET_LARGE)
        assert len(await newest.rest()) > LARGE_RESPONSE
        for connection in (oldest, older):
            connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await oldest.rest()) < LARGE_RESPONSE
        assert len(await older.rest()) > LARGE_RESPONSE


async def test_a_response_larger_than_the_limit_is_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.connection.server_limits.MAX_UNREAD_BYTES", 1)
    async with site.connect() as connection:
        await connection.send(GET_LARGE)
        assert len(await connection.rest()) > LARGE_RESPONSE


async def test_an_evicted_connection_is_closed_despite_an_unread_response(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its file descriptor stays open until the client reads."""
    monkeypatch.setattr(LimitedProtocol, "max_connections", 1)
    async with site.connect() as idler:
        idler.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await idler.send(GET_LARGE)
        await until(lambda: bool(unread()))
        async with site.connect() as connection:
            await connection.send(GET)
            assert await connection.answer() == (200, {"quick": True})
            await until(lambda: not unread())
        idler.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await idler.rest()) < LARGE_RESPONSE


def test_the_limit_of_open_files_is_raised_as_far_as_permitted() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = before
    low = soft - 10
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        assert raise_file_limit(low - 1) == low
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (low, hard)
        assert raise_file_limit(low + 5) == low + 5
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (low + 5, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_server_within_a_loop_raises_the_limit_of_open_files() -> None:
    """Like that of a processor, whose server runs next to Faust."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = LimitedProtocol.max_connections + RESERVED_FILES
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        settings = HttpSettings(
            metrics_token=ReloadableTokens("token"), host="127.0.0.1", port=free_ports(1)[0]
        )
        async with serving(Starlette(), settings):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == needed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_number_of_connections_is_limited_by_open_files() -> None:
    class Few(LimitedProtocol):
        max_connections = 7

    class Many(LimitedProtocol):
        max_connections = 10**9

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        limit_connections(Few)
        assert Few.max_connections == 7
        limit_connections(Many)
        assert Many.max_connections == before[1] - RESERVED_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
