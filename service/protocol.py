"""HTTP on one connection: uvicorn's protocol with limits, and with errors in JSON.

What comes before a handler is called is a stranger's: without limits a header that grows, or one
that never ends, takes memory and connections that nobody gave it.

A request that an application can answer directly (service.direct) is held until it has come whole,
and then goes there; ASGI is entered only where it must.
"""

import asyncio
from typing import Any

import httptools
import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.countdown import Countdown
from service.crowd import crowd_of
from service.direct import Direct, Exchange, response
from service.held import Held
from service.unread import Unread

log = structlog.get_logger(__name__)

HEADER_OVERHEAD = 32
"""Bytes that each header counts for beside its name and value: it costs memory, however short."""


class TooMuchPipelinedError(Exception):
    """Raised within the parser: nothing behind this point counts."""


class HeaderTooLargeError(Exception):
    """Raised within the parser: the request has more header than it may have."""


class NoRoomError(Exception):
    """Raised within the parser: more of bodies waits, on all connections, than may."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection, with limits."""

    max_header_bytes = 64 * 1024
    header_within = 10.0
    """Seconds in which a connection must bring a whole header whenever nothing is being answered;
    between two requests uvicorn's keep-alive of 5 s ends it before."""
    max_connections = 10_000
    """For one more, the one goes on which nothing has been answered for the longest time."""
    max_pipelined = 32
    """Requests that may wait for the one before them to be answered. What comes behind them is
    thrown away, and the connection ends with the last of their answers."""
    read_within = 30.0
    """Seconds in which a client must have read what was written, so far that more may be; whoever
    does not is gone, and a connection that waits to be closed is no exception."""

    last_within = 0.5
    """Seconds after a stop has begun in which a connection may bring one more request: it was on
    its way when the stop began, and its client could not know what became of it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Of the application itself, whatever uvicorn has put around it.
        self._direct: Direct | None = getattr(self.config.app, "direct", None)
        self._header_bytes = 0
        self._unparsed = 0
        """Bytes taken since the parser last finished a header, or brought a piece of a body."""
        self._header_is_too_large = False
        self._unread: asyncio.TimerHandle | None = None
        self._stopping = False
        self._is_full = False
        """More was pipelined than may be: nothing that comes counts any more."""
        self._crowd = crowd_of(self.server_state)
        self._bodies = Unread(self._crowd)
        self._has_no_room = False
        self._held = Held(self.loop, self._crowd, self._release_held)
        self._is_idle = False
        self._countdown = Countdown(self.loop, self._end)
        """To the end of the connection, unless something comes or is being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._crowd.thin_out():
            self._refuse(503, "Too many connections: try again", b"retry-after: 1\r\n")
        else:
            self._crowd.join(self)
            self._countdown.set(self.header_within)

    def close_for_another(self) -> None:
        """Give way to a new connection: nothing is being answered on this one."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait_for_reader()
        self._crowd.leave(self)
        self._held.end()
        self._bodies.end()
        self._countdown.drop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.read_within, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_wait_for_reader()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._is_full:
            return
        self._unparsed += len(data)
        if self._is_idle and not self._stopping:
            self._is_idle = False
            self._countdown.set(self.header_within)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a request for an upgrade is answered as if it asked for none
        except httptools.HttpParserError:
            if not self._is_full:
                self._refuse_unparsed()
                return
        cycle = self.cycle
        if self._unparsed > self.max_header_bytes and not self.transport.is_closing():
            self._refuse_header()
        elif self._held.is_there:
            self._countdown.stop()
            self._crowd.leave(self)
            self._held.wait()
        elif cycle is not None and not cycle.response_complete:
            self._countdown.stop()
            self._crowd.leave(self)
        elif not self._countdown.runs:
            self._countdown.set(self.header_within)

    def shutdown(self) -> None:
        """Finish what is being answered, or what comes at once, and nothing else.

        A pipelined request that has not begun would get its whole time only then: a stop would
        have to cut it off with its fate undecided.
        """
        self._stopping = True
        self.pipeline.clear()
        self._release_held()
        if self._is_answering():
            super().shutdown()
        else:
            self._countdown.set(self.last_within)

    def on_response_complete(self) -> None:
        """Go on with what is pipelined, or wait for the next request."""
        self.server_state.total_requests += 1
        self._bodies.drop_answered()
        transport = self.transport
        if self._stopping or (self._is_full and not self.pipeline):
            transport.close()
        if transport.is_closing():
            return
        if self.pipeline:
            # Reading goes on when nothing waits: else each answer would let in more than itself.
            cycle, app = self.pipeline.pop()
            if self._is_full and not self.pipeline:
                cycle.keep_alive = False
            self._start_asgi_task(cycle, app)
        else:
            self.flow.resume_reading()
            self._crowd.join(self)
            self._is_idle = True
            self._countdown.set(self.timeout_keep_alive)

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + HEADER_OVERHEAD
        if self._header_bytes > self.max_header_bytes:
            self._count_header(0)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        if len(self.pipeline) >= self.max_pipelined:
            self._is_full = True
            raise TooMuchPipelinedError
        if (
            self._direct is not None
            and (self.cycle is None or self.cycle.response_complete)
            and not self._stopping
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self._held.take(self.url, self.headers)
        ):
            return
        self._begin_cycle()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if self._held.is_there:
            self._held.add(body)
        elif not self.cycle.response_complete:
            if not self._bodies.has_room(len(body)):
                self._give_up_body()
            super().on_body(body)
            self._bodies.add(self.cycle, len(body))

    def on_message_complete(self) -> None:
        if not self._held.is_there or not self._answer_directly():
            if not self._enter_asgi():
                raise NoRoomError
            super().on_message_complete()

    def write_answer(self, status: int, body: bytes, headers: bytes, keep_alive: bool) -> None:
        """Write an answer as one piece, and close where nothing may follow it."""
        default = b"".join([b"%b: %b\r\n" % each for each in self.server_state.default_headers])
        self.transport.write(response(status, body, headers, default, keep_alive))
        if not keep_alive:
            self.transport.close()

    def _answer_directly(self) -> bool:
        assert self._direct is not None
        held = self._held
        exchange = Exchange(self, self.parser.should_keep_alive())
        before, self.cycle = self.cycle, exchange  # type: ignore[assignment]
        try:
            taken = self._direct(self.url, held.headers, held.body(), exchange)
        except Exception as error:
            log.error("request failed", path=self.url.decode(errors="replace"), exc_info=error)
            exchange.answer(500, b'{"error":"Internal server error"}')
            taken = True
        if not taken:
            self.cycle = before
            return False
        held.end()
        return True

    def _release_held(self) -> None:
        if not self._enter_asgi():
            self._refuse_unparsed()

    def _enter_asgi(self) -> bool:
        """Let a request that is held go the ordinary way, with as much as has come of it.

        False: there is no room for that.
        """
        if not self._held.is_there:
            return True
        pieces = self._held.end()
        if not self._bodies.has_room(sum(map(len, pieces))):
            self._has_no_room = True
            return False
        self._begin_cycle()
        for piece in pieces:
            super().on_body(piece)
            self._bodies.add(self.cycle, len(piece))
        return True

    def _give_up_body(self) -> None:
        """Take no more of the request whose body is coming, nor any after it: there is no room.

        Raises:
            NoRoomError, TooMuchPipelinedError: always; the latter if others are answered before it.
        """
        cycle = self.cycle
        self._bodies.drop(cycle)
        cycle.disconnected = True
        cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            self._is_full = True
            raise TooMuchPipelinedError
        self._has_no_room = True
        raise NoRoomError

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, self._bodies.noted(cycle, app))

    def _begin_cycle(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expect
        self.scope["headers"] = headers
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def _unset_keepalive_if_required(self) -> None:
        """The countdown of the connection does it."""

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a request for an upgrade is answered as if it asked for none."""

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self.max_header_bytes:
            self._header_is_too_large = True
            raise HeaderTooLargeError

    def _refuse_unparsed(self) -> None:
        """Answer to what the parser refuses: no HTTP, an unknown method, or our own limits."""
        if self._header_is_too_large:
            self._refuse_header()
        elif self._has_no_room:
            self._refuse(503, "Too much is being received: try again", b"retry-after: 1\r\n")
        else:
            self._refuse(400, "This is no valid HTTP request, or its method is unknown")

    def _refuse_header(self) -> None:
        self._refuse(431, f"The header is larger than {self.max_header_bytes} bytes")

    def _refuse(self, status: int, error: str, *headers: bytes) -> None:
        """Answer and close; only close where the answer would be taken for an earlier request's."""
        if not self._owes_an_answer():
            body = orjson.dumps({"error": error})
            parts = [
                STATUS_LINE[status],
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(body),
                b"connection: close\r\n",
                *headers,
                b"\r\n",
                body,
            ]
            self.transport.write(b"".join(parts))
        self.transport.close()

    def _is_answering(self) -> bool:
        return self._held.is_there or (self.cycle is not None and not self.cycle.response_complete)

    def _owes_an_answer(self) -> bool:
        """Tell whether a request that has come whole still waits for its answer."""
        if self.pipeline:
            return True
        if self._held.is_there or not self._is_answering():
            return False
        return not self.cycle.more_body or self.cycle.response_started

    def _end_wait_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end(self) -> None:
        if not self._is_answering():
            self.transport.close()
