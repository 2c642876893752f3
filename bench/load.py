"""The load generator: HTTP/1.1 requests over raw connections. Every response is checked."""

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, cast

from bench.errors import WrongResultError

END = b"\r\n\r\n"
LENGTH = b"content-length:"
PATIENCE = 20
"""Seconds without any response after which the load has failed."""


class Workload:
    """Submissions `first` to `first + count - 1`, in requests of `size` submissions each.

    A request has the number of its first submission.
    """

    def __init__(self, first: int, count: int, size: int = 1) -> None:
        self.first, self.end, self.size = first, first + count, size
        self._next = first

    def next(self) -> tuple[int, bytes] | None:
        """The next request with its number; None at the end."""
        first = self._next
        if first == self.end:
            return None
        self._next = last = min(first + self.size, self.end)
        return first, self.request(first, last)

    def request(self, first: int, last: int) -> bytes:
        """The request for the submissions from `first` to before `last`."""
        raise NotImplementedError

    def answered(self, number: int, status: int, body: bytes) -> None:
        """Check a response.

        Raises:
            WrongResultError: it is not the expected one.
        """
        raise NotImplementedError

    async def check(self) -> None:
        """Check afterwards what the system holds.

        Raises:
            WrongResultError: something is missing or wrong.
        """


@dataclass(frozen=True)
class Address:
    """A server's address, and the TLS context to verify it with."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass
class Driver:
    """Sends a workload over `connections` connections, one request at a time on each.

    With `fresh` every request has a new connection; at most `connections` are open at a time.
    """

    address: Address
    work: Workload
    connections: int
    fresh: bool = False
    interval: float = 0.0
    """Seconds between the starts of two requests; 0 sends as fast as responses come."""
    seconds: list[float] = field(default_factory=list)
    """Response times, from the end of the request, or from connecting with `fresh`."""

    async def run(self) -> None:
        """Return when every request has its response.

        Raises:
            WrongResultError: a response was wrong, or did not come.
        """
        self._open = 0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._done: asyncio.Future[None] = self._loop.create_future()
        others = self._loop.get_exception_handler()
        self._loop.set_exception_handler(self._on_error)
        try:
            await self._run()
        finally:
            self._loop.set_exception_handler(others)

    async def _run(self) -> None:
        self._tasks = {self._loop.create_task(self._connect()) for _ in range(self.connections)}
        answered = -1
        while not self._done.done():
            if answered == len(self.seconds):
                self.fail(f"no response for {PATIENCE} s, after {answered}")
            answered = len(self.seconds)
            await asyncio.wait([self._done], timeout=PATIENCE)
        await self._done

    async def _connect(self) -> None:
        """Open a connection, unless nothing is left to send."""
        try:
            request = self.work.next()
            if request is not None:
                self._open += 1
                began = time.perf_counter()
                await self._loop.create_connection(
                    lambda: _Connection(self, request, began),
                    self.address.host,
                    self.address.port,
                    ssl=self.address.tls,
                    server_hostname="localhost" if self.address.tls else None,
                )
            elif self._open == 0 and not self._done.done():
                self._done.set_result(None)
        except OSError as error:
            self.fail(f"no connection: {error}")

    def _on_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fail(f"{context['message']}: {context.get('exception')!r}")

    def fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(WrongResultError(reason))

    def schedule(self, connection: "_Connection") -> None:
        """Send the connection's request when it is due."""
        if not self.interval:
            connection.send()
            return
        due, self._due = self._due, self._due + self.interval
        self._loop.call_at(due, connection.send)

    def closed(self) -> None:
        """A connection was closed after its last response."""
        self._open -= 1
        if not self._done.done():
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class _Connection(asyncio.Protocol):
    def __init__(self, driver: Driver, request: tuple[int, bytes], began: float) -> None:
        self._driver = driver
        self._number, self._request = request
        self._began = began
        self._received = b""
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._driver.schedule(self)

    def send(self) -> None:
        if not self._driver.fresh:
            self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        driver = self._driver
        try:
            found = split_response(data)
            if found is None:
                self._received = data
                return
            driver.seconds.append(time.perf_counter() - self._began)
            driver.work.answered(self._number, *found)
        except WrongResultError as error:
            driver.fail(str(error))
            self._close()
            return
        self._received = b""
        request = None if driver.fresh else driver.work.next()
        if request is None:
            self._close()
            return
        self._number, self._request = request
        driver.schedule(self)

    def _close(self) -> None:
        self._finished = True
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._finished:
            self._driver.closed()
        else:
            self._driver.fail(f"a connection broke before its response: {error}")


def split_response(data: bytes) -> tuple[int, bytes] | None:
    """Status and body of a response; None while it is incomplete.

    Raises:
        WrongResultError: there is more than one response, or one of unknown length.
    """
    end = data.find(END)
    if end < 0:
        return None
    status = int(data[9:12])
    head = data[:end].lower()
    at = head.find(LENGTH)
    if at >= 0:
        line_end = head.find(b"\r", at)
        length = int(head[at + len(LENGTH) : line_end if line_end >= 0 else None])
    elif status == 204:
        length = 0
    else:
        raise WrongResultError(f"a response without a length: {data[:500]!r}")
    missing = end + len(END) + length - len(data)
    if missing < 0:
        raise WrongResultError(f"more than one response: {data[:500]!r}")
    return None if missing > 0 else (status, data[end + len(END) :])


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A POST request; `_` in a header's name stands for `-`."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END + body
