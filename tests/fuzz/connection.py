"""A connection to the gateway without a socket: sends bytes and parses the responses."""

import asyncio
import re
from collections import deque
from typing import Any, NamedTuple

from uvicorn.server import ServerState

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.connection.protocol import LimitedProtocol
from service.http.server import server_config
from tests.fuzz.gateway import Offline
from tests.fuzz.reference import ReferenceResult, reference
from tests.fuzz.virtual import VirtualLoop

PAUSE = b"~~"
"""Marks a pause of the sender, within the data that it sends."""
PAUSE_SECONDS = 1.0
END = b"^^"
"""Marks the end of the sender, which only reads afterwards."""
SETTLED_SECONDS = 120.0
"""After this time without a byte from its sender, nothing may be left of a connection."""
TOO_SLOW = 408
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"^content-length: (\d+)\r$", re.MULTILINE)


class Transport(asyncio.Transport):
    """The server's end: takes written data, and delivers fed data while reading is not paused."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: LimitedProtocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_lost = False
        self._loop = loop
        self._protocol = protocol
        self._closing = self._paused = False
        self._fed: deque[bytes] = deque()
        self._ends = self._wrote_eof = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)}.get(name, default)

    def feed(self, data: bytes) -> None:
        self._fed.append(data)
        self._deliver()

    def end(self) -> None:
        """End the sender after the fed data is delivered."""
        self._ends = True
        self._deliver()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._wrote_eof
        if not self._closing:
            self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """All that is written is read at once."""

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._wrote_eof = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lose)

    abort = close

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._fed and not (self._paused or self._closing):
            self._protocol.data_received(self._fed.popleft())
        if self._ends and not (self._fed or self._paused or self._closing):
            self._ends = False
            if not self._protocol.eof_received():
                self.close()

    def _lose(self) -> None:
        self.is_lost = True
        self._protocol.connection_lost(None)


class ReceivedResponse(NamedTuple):
    status: int
    body: bytes
    is_refusal: bool
    """True if the protocol refused the request: the response lacks the application's headers."""


class FuzzedServer:
    """Serves one connection after the other."""

    def __init__(self, offline: Offline) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self._config = server_config(offline.app, HttpSettings(metrics_token=ReloadableTokens("m")))
        self._config.load()
        self._state = ServerState()
        self._publisher = self.loop.create_task(offline.gateway.batcher.run())
        self.loop.pass_time(1)

    def connect(self, data: bytes) -> list[ReceivedResponse]:
        """Send data on a new connection; return all responses.

        Raises:
            AssertionError: a callback failed, a response is a 5xx or malformed, there are more
            responses than requests or in another order, or something is left of the connection when
            it should be closed.
        """
        found = self._connect(data)
        sent = reference(data.removesuffix(END).replace(PAUSE, b""))
        assert len(found) <= len(sent) + 1, "more responses than requests"
        if len(sent) > 1:
            for answer, request in zip(found, sent, strict=False):
                alone = self._connect(as_sent(request))
                # The protocol may be stricter than the reference, and then refuses the last one.
                if not (answer is found[-1] and answer.is_refusal):
                    assert not alone or answer.status in (alone[0].status, TOO_SLOW), (
                        "another order"
                    )
        return found

    def _connect(self, data: bytes) -> list[ReceivedResponse]:
        transport = self.loop.run_until_complete(self._send(data))
        faults, self.loop.faults = self.loop.faults, []
        assert not faults, faults
        assert transport.is_lost, "the connection is still open"
        assert not self._state.connections, "the server holds the connection"
        assert not self._state.tasks, "a request is still being processed"
        assert not self._publisher.done()
        found = answers(bytes(transport.written))
        failed = [answer for answer in found if answer.status >= 500]
        assert not failed, failed
        return found

    async def _send(self, data: bytes) -> Transport:
        protocol = LimitedProtocol(self._config, self._state, {}, self.loop)
        transport = Transport(self.loop, protocol)
        protocol.connection_made(transport)
        for number, piece in enumerate(data.removesuffix(END).split(PAUSE)):
            if number:
                await asyncio.sleep(PAUSE_SECONDS)
            if piece:
                transport.feed(piece)
        if data.endswith(END):
            transport.end()
        await asyncio.sleep(SETTLED_SECONDS)
        return transport


def as_sent(request: ReferenceResult) -> bytes:
    """Return a request by itself, with its body in one piece."""
    framing = (b"content-length", b"transfer-encoding", b"trailer")
    lines = [b"%b: %b\r\n" % each for each in request.headers if each[0] not in framing]
    head = b"%b %b HTTP/1.1\r\n%b" % (request.method, request.target, b"".join(lines))
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(request.body), request.body)


def answers(written: bytes) -> list[ReceivedResponse]:
    """Parse the responses of a server; a response to HEAD has no body.

    Raises:
        AssertionError: it is not a sequence of responses.
    """
    found = []
    at = 0
    while at < len(written):
        head = _HEAD.match(written, at)
        assert head is not None, f"no response: {written[at : at + 200]!r}"
        status, at = int(head[1]), head.end()
        if status == 100:
            continue
        length = _LENGTH.search(head[2])
        assert length is not None, f"a response of unknown length: {head[0]!r}"
        is_head = written.startswith(b"HTTP/1.1 ", at) or at == len(written)
        end = at if is_head else at + int(length[1])
        assert end <= len(written), f"a truncated response: {written[at:]!r}"
        is_refusal = b"tobogganing-service:" not in head[2].lower()
        found.append(ReceivedResponse(status, written[at:end], is_refusal))
        at = end
    return found
