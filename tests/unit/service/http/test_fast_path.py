"""The fast path: which requests bypass ASGI, with the same behaviour as through ASGI."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from service.http.connection import request_buffer
from service.http.connection.fast_path import FastPathExchange, RawHeaders
from service.http.connection.protocol import LimitedProtocol
from tests.unit.service.http.site import (
    CHUNKED,
    GET,
    KEEP_ALIVE,
    Site,
    limit,
    nothing_is_counted,
    start,
    until,
)


@dataclass
class Double:
    """Accepts requests to /take, and responds at once or when `answer` is called."""

    at_once: bool = True
    taken: list[tuple[bytes, RawHeaders]] = field(default_factory=list)
    pending: list[FastPathExchange] = field(default_factory=list)
    came: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def __call__(
        self, target: bytes, headers: RawHeaders, body: bytes, exchange: FastPathExchange, /
    ) -> bool:
        if target != b"/take" or body == b"declined":
            return False
        self.taken.append((body, headers))
        self.pending.append(exchange)
        if self.at_once:
            self.answer()
        self.came.release()
        return True

    def answer(self) -> None:
        self.pending.pop(0).respond(200, b'{"direct":true}', b"x-more: 1\r\n")


@pytest.fixture
def double() -> Double:
    return Double()


@pytest.fixture
async def site(double: Double) -> AsyncIterator[Site]:
    async with contextlib.AsyncExitStack() as stack:
        yield await start(stack, double)
    assert nothing_is_counted()


def post(body: bytes = b"hello", *headers: bytes) -> bytes:
    more = b"".join(b"%b\r\n" % header for header in headers)
    return b"POST /take HTTP/1.1\r\nHost: x\r\nX-A: b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        len(body),
        more,
        body,
    )


DIRECT = (200, {"direct": True})


def _connections() -> list[LimitedProtocol]:
    """Open connections of the server."""
    objects = [each for each in gc.get_objects() if isinstance(each, LimitedProtocol)]
    return [each for each in objects if not each._input_ended]


@pytest.mark.parametrize(
    ("request_bytes", "has_it"),
    [
        (post(), True),  # the fast path
        (GET, True),  # ASGI
        (GET.replace(b"/quick", b"/nowhere"), True),
        (b"nonsense\r\n\r\n", False),  # makes no statement about a sample
    ],
)
async def test_every_response_of_the_application_has_the_manager_header(
    site: Site, request_bytes: bytes, has_it: bool
) -> None:
    async with site.connect() as connection:
        await connection.send(request_bytes)
        head = await connection.reader.readuntil(b"\r\n\r\n")
    assert (b"\r\ntobogganing-service: manager\r\n" in head) is has_it


async def test_a_partial_header_after_a_request_has_the_header_timeout(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of the much longer timeout of an idle connection."""
    monkeypatch.setattr(LimitedProtocol, "header_timeout", KEEP_ALIVE / 4)
    async with site.connect() as connection:
        began = time.monotonic()
        await connection.send(post() + b"GET /qui")
        assert await connection.answer() == DIRECT
        assert await connection.rest() == b""
        assert time.monotonic() - began < KEEP_ALIVE


async def test_a_complete_request_uses_the_fast_path(site: Site, double: Double) -> None:
    async with site.connect() as connection:
        for body in (b"hello", b"", b"x" * 60_000):
            await connection.send(post(body))
            assert await connection.answer() == DIRECT
            assert double.taken[-1] == (
                body,
                {b"host": b"x", b"x-a": b"b", b"content-length": str(len(body)).encode()},
            )
        await connection.send(GET)
        assert await connection.answer() == (200, {"quick": True})


@pytest.mark.parametrize("cuts", [(10,), (45,), (50,), (52,), (20, 50, 53)])
async def test_a_fast_path_request_may_arrive_in_parts(
    site: Site, double: Double, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, read = post(), asyncio.Semaphore(0)
    receive = LimitedProtocol.data_received

    def noting(self: LimitedProtocol, data: bytes) -> None:
        receive(self, data)
        read.release()

    monkeypatch.setattr(LimitedProtocol, "data_received", noting)
    async with site.connect() as connection:
        start = 0
        for cut in (*cuts, len(request)):
            await connection.send(request[start:cut])
            await read.acquire()
            start = cut
        assert await connection.answer() == DIRECT
    assert [body for body, _ in double.taken] == [b"hello"]


@pytest.mark.parametrize(
    "request_",
    [
        post(b"declined"),
        CHUNKED + b"8\r\ndeclined\r\n0\r\n\r\n",
        post(b"declined", b"X-A: again"),
        post(b"declined", b"Expect: 100-continue"),
        b"POST /take HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 8\r\n\r\ndeclined",
    ],
    ids=["declined", "chunked", "a header twice", "expect", "1.0"],
)
async def test_declined_requests_are_passed_to_asgi(
    site: Site, double: Double, request_: bytes
) -> None:
    async with site.connect() as connection:
        await connection.send(request_)
        if b"100-continue" in request_:
            go_on = await connection.reader.readuntil(b"\r\n\r\n")
            assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await connection.answer() == (200, {"taken": len(b"declined")})
        assert double.taken == []


async def test_an_incomplete_request_is_passed_to_asgi_after_the_timeout(
    site: Site, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_buffer, "BUFFER_TIMEOUT", 0.02)
    request = post(b"late")
    async with site.connect() as connection:
        await connection.send(request[:-2])
        await site.entered.acquire()
        await connection.send(request[-2:])
        assert await connection.answer() == (200, {"taken": len(b"late")})
        assert double.taken == []
        await connection.send(post())
        assert await connection.answer() == DIRECT


async def test_responses_have_the_order_of_requests(site: Site, double: Double) -> None:
    double.at_once = False
    async with site.connect() as connection:
        await connection.send(post(b"1") + GET + post(b"2") + post(b"3"))
        await double.came.acquire()
        assert [body for body, _ in double.taken] == [b"1"]
        double.answer()
        assert await connection.answer() == DIRECT
        assert await connection.answer() == (200, {"quick": True})
        for body in (b"2", b"3"):
            await double.came.acquire()
            assert double.taken[-1][0] == body
            double.answer()
            assert await connection.answer() == DIRECT


async def test_a_pipelined_request_waits_for_the_active_one(site: Site, double: Double) -> None:
    async with site.connect() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + post(b"behind"))
        await site.entered.acquire()
        site.go_on.set()
        assert await connection.answer() == (200, {"slow": True})
        assert await connection.answer() == DIRECT


async def test_a_stop_waits_for_a_fast_path_response(site: Site, double: Double) -> None:
    double.at_once = False
    async with site.connect() as connection:
        await connection.send(post())
        await double.came.acquire()
        stopping = asyncio.create_task(site.stop())
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while True:  # until it has closed its port, which is the first step
                    async with site.connect():
                        await asyncio.sleep(0)
        assert not stopping.done()
        double.answer()
        assert await connection.answer() == DIRECT
        assert await connection.rest() == b""
        await stopping


async def test_a_client_may_disconnect_before_the_response(
    site: Site, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.at_once, gone = False, asyncio.Event()
    lose = LimitedProtocol.connection_lost

    def noting(self: LimitedProtocol, error: Exception | None) -> None:
        lose(self, error)
        gone.set()

    monkeypatch.setattr(LimitedProtocol, "connection_lost", noting)
    async with site.connect() as connection:
        await connection.send(post())
        await double.came.acquire()
        await connection.reset()
    async with asyncio.timeout(5):
        await gone.wait()
    assert double.pending[0].disconnected
    double.answer()
    async with site.connect() as connection:
        await connection.send(GET)
        assert await connection.answer() == (200, {"quick": True})


@pytest.mark.parametrize("wish", [b"Connection: close", b"Connection: keep-alive"])
async def test_a_connection_is_closed_on_request(site: Site, double: Double, wish: bytes) -> None:
    async with site.connect() as connection:
        await connection.send(post(b"x", wish))
        async with asyncio.timeout(5):
            header = await connection.reader.readuntil(b"\r\n\r\n")
            await connection.reader.readexactly(15)
        assert b"x-more: 1\r\n" in header
        assert b"\r\ndate: " in header
        assert (b"connection: close" in header) == (wish == b"Connection: close")
        if wish == b"Connection: close":
            assert await connection.rest() == b""


async def test_an_exception_in_the_handler_is_a_500(
    site: Site, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Double, *_: object) -> bool:
        raise RuntimeError("an internal error")

    monkeypatch.setattr(Double, "__call__", fail)
    async with site.connect() as connection:
        await connection.send(post())
        assert await connection.answer() == (500, {"error": "Internal server error"})


@pytest.mark.parametrize("first", [b"", GET], ids=["first request", "second request"])
async def test_a_buffered_request_without_capacity_for_its_body_is_503(
    site: Site, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_buffer, "BUFFER_TIMEOUT", 0.02)
    limit(monkeypatch, "pending", 1)
    async with site.connect() as connection:
        if first:
            await connection.send(first)
            assert await connection.answer() == (200, {"quick": True})
        await connection.send(post(b"late")[:-2])
        status, body = await connection.answer()
        assert (status, body) == (503, {"error": "Too much data is being received: try again"})
        assert await connection.rest() == b""


async def test_reading_is_paused_while_the_client_does_not_read(
    site: Site, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends without reading must not make the server's memory grow."""
    pauses = asyncio.Semaphore(0)
    pause = LimitedProtocol.pause_writing

    def noting(self: LimitedProtocol) -> None:
        pause(self)
        pauses.release()

    monkeypatch.setattr(LimitedProtocol, "pause_writing", noting)
    async with site.connect() as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0
        while pauses.locked():
            await connection.send(post() * 20)
            sent += 20
            await until(lambda n=sent: len(double.taken) >= n or not pauses.locked())  # type: ignore[misc]
        (protocol,) = _connections()
        for _ in range(20):
            await connection.send(post() * 20)
            sent += 20
        await until(lambda: protocol.flow.read_paused)
        assert len(double.taken) < sent
        assert 0 < protocol.transport.get_write_buffer_size() < 1024, "more than one response"
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(len(double.taken)):
            assert await connection.answer() == DIRECT
        await until(lambda: not protocol.flow.read_paused)


async def test_pipelined_fast_path_requests_are_limited(site: Site, double: Double) -> None:
    """A client that does not wait for responses gets 33 of them, and may reconnect."""
    count = LimitedProtocol.max_pipelined + 1
    for last in (b"", b"x"):
        async with site.connect() as connection:
            await connection.send(post() * 5_000 + last)
            for _ in range(count):
                assert await connection.answer() == DIRECT
            assert await connection.rest() == b""
    async with site.connect() as connection:
        for _ in range(3):
            await connection.send(post() * (count - 1))
            for _ in range(count - 1):
                assert await connection.answer() == DIRECT


@pytest.mark.parametrize("target", [b"http://x:99999/take", b"x:1"])
async def test_an_invalid_target_is_refused_before_the_body_arrives(
    site: Site, target: bytes
) -> None:
    async with site.connect() as connection:
        await connection.send(post(b"late").replace(b"/take", target)[:-2])
        status, _ = await connection.answer()
        assert status == 400
        assert await connection.rest() == b""
