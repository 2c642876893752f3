"""A load generator: HTTP/1.1 requests, each sent as soon as the one before was answered.

Every answer is looked at; the first that is not as it must be ends the measurement.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from bench.errors import WrongResultError

END = b"\r\n\r\n"
LENGTH = b"content-length:"
PATIENCE = 20
"""Seconds after which somebody who does not answer has failed."""


class Work(Protocol):
    """What is to be asked, and what the answers must be."""

    def next(self) -> tuple[int, bytes] | None:
        """The next request and its number; None when there is no more."""

    def answered(self, number: int, status: int, body: bytes) -> None:
        """Take the answer.

        Raises:
            WrongResultError: it is not what it must be.
        """


@dataclass(frozen=True)
class Address:
    """Where a server is, and how to be sure of it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass
class Driver:
    """Goes through some work, over so many connections.

    With `fresh` every request has a connection of its own, and only so many are open at a time.
    """

    address: Address
    work: Work
    connections: int
    fresh: bool = False
    seconds: list[float] = field(default_factory=list)
    """How long each answer took, from the request's last byte, or from connecting if `fresh`."""

    async def run(self) -> None:
        """Return once everything was answered.

        Raises:
            WrongResultError: an answer was wrong, or did not come.
        """
        self._open = 0
        self._loop = asyncio.get_running_loop()
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
                self.fail(f"no answer for {PATIENCE} s, after {answered}")
            answered = len(self.seconds)
            await asyncio.wait([self._done], timeout=PATIENCE)
        await self._done

    async def _connect(self) -> None:
        """Open a connection, unless there is nothing left to be sent on it."""
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

    def closed(self) -> None:
        """A connection has ended as it should."""
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
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        if not self._driver.fresh:
            self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        driver = self._driver
        try:
            found = split_answer(data)
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
        self._number, content = request
        self._began = time.perf_counter()
        self._transport.write(content)

    def _close(self) -> None:
        self._finished = True
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._finished:
            self._driver.closed()
        else:
            self._driver.fail(f"a connection broke before its answer was there: {error}")


def split_answer(data: bytes) -> tuple[int, bytes] | None:
    """Status and body of an answer; None while it is not whole.

    Raises:
        WrongResultError: it is none, or more than one, or of unknown length.
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
        raise WrongResultError(f"an answer without a length: {data[:500]!r}")
    missing = end + len(END) + length - len(data)
    if missing < 0:
        raise WrongResultError(f"more than one answer: {data[:500]!r}")
    return None if missing > 0 else (status, data[end + len(END) :])


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A POST request with its headers (`_` stands for `-`)."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END + body
