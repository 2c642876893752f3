"""HTTP on one connection: uvicorn's protocol with a strict parser, limits, and errors in JSON.

What comes before a handler is called is a stranger's: without limits a header that grows, or one
that never ends, takes memory and connections that nobody gave it.

A request that an application can answer directly (service.direct) goes there as soon as it has come
whole, until which it is held; ASGI is entered only where it must.

Every request that has come whole is answered, in order, and once. Where nothing more can be read
for certain (the sender has closed its side, asked for the end, or sent what is no request), the
connection ends with the last of these answers.
"""

import asyncio
from typing import Any

import orjson
import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.countdown import Countdown
from service.crowd import crowd_of
from service.direct import Direct, Exchange, response
from service.held import Held, is_plain
from service.request_parser import Request, RequestError, RequestParser
from service.unread import Unread

log = structlog.get_logger(__name__)


class LimitedProtocol(HttpToolsProtocol):
    """One connection, with limits."""

    max_header_bytes = 64 * 1024
    header_within = 10.0
    """Seconds in which a connection must bring a whole header whenever nothing is being answered;
    between two requests the keep-alive time of the settings comes before it."""
    max_connections = 10_000
    """For one more, the one goes on which nothing has been answered for the longest time."""
    max_pipelined = 32
    """Requests that may wait for the one before them to be answered. What follows them is
    thrown away, and the connection ends with the last of their answers."""
    read_within = 30.0
    """Seconds in which a client must have read what was written, so far that more may be; whoever
    does not is gone, and a connection that waits to be closed is no exception."""

    last_within = 0.5
    """Seconds after a stop has begun in which a connection may bring one more request: it was on
    its way when the stop began, and its client could not know what became of it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser: RequestParser = RequestParser(  # type: ignore[assignment]
            self, self.max_header_bytes
        )
        # Of the application itself, whatever uvicorn has put around it.
        self._direct: Direct | None = getattr(self.config.app, "direct", None)
        self._request: Request | None = None
        """The request whose body is coming, or that came last."""
        self._active: RequestResponseCycle | Exchange | None = None
        """The request that is being answered, or was last; others wait in the pipeline."""
        self._unread: asyncio.TimerHandle | None = None
        self._stopping = False
        self._input_ended = False
        """Nothing that comes counts any more."""
        self._crowd = crowd_of(self.server_state)
        self._bodies = Unread(self._crowd)
        self._held = Held(self.loop, self._crowd, self._release_held)
        self._is_idle = False
        self._countdown = Countdown(self.loop, self._end)
        """To the end of the connection, unless something comes or is being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._crowd.thin_out():
            full = "Too many connections: try again"
            self._refuse(RequestError(503, full, b"retry-after: 1\r\n"))
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
        if self._input_ended:
            return
        was_idle, self._is_idle = self._is_idle, False
        try:
            self.parser.feed(data)
        except RequestError as error:
            self._refuse(error)
        if self._held.is_there:
            self._countdown.stop()
            self._crowd.leave(self)
            self._held.wait()
        elif self._is_answering():
            self._countdown.stop()
            self._crowd.leave(self)
        elif self._is_idle:
            # All was answered at once; of the next request a part may have come.
            if not self.parser.is_between:
                self._is_idle = False
                self._countdown.set(self.header_within)
        elif (was_idle and not self._stopping) or not self._countdown.runs:
            self._countdown.set(self.header_within)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what has come whole; its sender sends nothing more, but may read."""
        return self._end_input()

    def shutdown(self) -> None:
        """Finish what is being answered, or what comes at once, and nothing else.

        A pipelined request that has not begun would get its whole time only then: a stop would
        have to cut it off with its fate undecided.
        """
        self._stopping = True
        self.pipeline.clear()
        if self._held.is_there:
            self._release_held()
        if self._is_answering():
            assert self._active is not None
            self._active.keep_alive = False
        else:
            self._countdown.set(self.last_within)

    def on_response_complete(self) -> None:
        """Start what is pipelined, or wait for the next request."""
        self.server_state.total_requests += 1
        self._bodies.drop_answered()
        transport = self.transport
        if self._stopping or (self._input_ended and not self.pipeline):
            transport.close()
        if transport.is_closing():
            return
        if self.pipeline:
            # Reading resumes when nothing waits: else each answer would let in more than itself.
            self._start_asgi_task(*self.pipeline.pop())
            return
        self.flow.resume_reading()
        self._crowd.join(self)
        self._is_idle = self.parser.is_between
        self._countdown.set(self.timeout_keep_alive if self._is_idle else self.header_within)

    def on_request(self, request: Request, body: bytes | None) -> bool:
        if len(self.pipeline) >= self.max_pipelined:
            raise RequestError(503, "Too many requests wait on this connection")
        self._request = request
        if (
            self._direct is not None
            and request.method == b"POST"
            and not self._is_answering()
            and not self._stopping
            and is_plain(request)
        ):
            if body is None:
                if self._held.take(request):
                    return False
            elif self._answer_directly(request, body):
                return True
        self._begin_cycle(request)
        return False

    def on_body(self, body: bytes) -> None:
        if self._held.is_there:
            self._held.add(body)
        elif not self.cycle.response_complete:
            if not self._bodies.has_room(len(body)):
                raise _no_room()
            self._take_body(body)

    def on_message_complete(self) -> None:
        assert self._request is not None
        if self._held.is_there:
            if self._answer_directly(self._request, self._held.body()):
                self._held.end()
                return
            self._enter_asgi()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if not self._request.keep_alive:
            self._input_ended = True

    def write_answer(self, status: int, body: bytes, headers: bytes, keep_alive: bool) -> None:
        """Write an answer as one piece, and close where nothing may follow it."""
        default = self._crowd.header_lines(self.server_state.default_headers)
        self.transport.write(response(status, body, headers, default, keep_alive))
        if not keep_alive:
            self.transport.close()

    def _answer_directly(self, request: Request, body: bytes) -> bool:
        assert self._direct is not None
        exchange = Exchange(self, request.keep_alive)
        before, self._active = self._active, exchange
        try:
            taken = self._direct(request.target, request.fields, body, exchange)
        except Exception as error:
            log.error(
                "request failed", path=request.target.decode(errors="replace"), exc_info=error
            )
            exchange.answer(500, b'{"error":"Internal server error"}')
            taken = True
        if not taken:
            self._active = before
            return False
        self.cycle = exchange  # type: ignore[assignment]
        self._input_ended = not request.keep_alive
        return True

    def _release_held(self) -> None:
        try:
            self._enter_asgi()
        except RequestError as error:
            self._refuse(error)

    def _enter_asgi(self) -> None:
        """Let the request that is held go the ordinary way, with as much as has come of it.

        Raises:
            RequestError: there is no room for that.
        """
        assert self._request is not None
        pieces = self._held.end()
        if not self._bodies.has_room(sum(map(len, pieces))):
            raise _no_room()
        self._begin_cycle(self._request)
        for piece in pieces:
            self._take_body(piece)

    def _take_body(self, piece: bytes) -> None:
        cycle = self.cycle
        cycle.body += piece
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()
        self._bodies.add(cycle, len(piece))

    def _begin_cycle(self, request: Request) -> None:
        raw_path, _, query = request.target.partition(b"?")
        path = raw_path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": request.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "method": request.method.decode("ascii"),
            "root_path": "",
            # Never decoded: proxies route by the path as it was sent, so this does, too.
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": request.headers(),
            "state": self.app_state.copy(),
        }
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=request.fields.get(b"expect", b"").lower() == b"100-continue",
            keep_alive=request.keep_alive and not self._stopping,
            on_response=self.on_response_complete,
        )
        if self._is_answering():
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, self._bodies.noted(cycle, app))

    def _unset_keepalive_if_required(self) -> None:
        """The countdown of the connection does it."""

    def _refuse(self, error: RequestError) -> None:
        """Read no further: answer what has come whole, else say what is wrong, and close.

        Nothing is said where that would be taken for the answer to another request, or follow
        the beginning of an answer to the same one.
        """
        begun = self.cycle if self.parser.in_body and not self._held.is_there else None
        if self._end_input():
            return
        if begun is None or not (begun.response_started or begun.response_complete):
            # Without the application's headers: what is refused here says nothing about a sample.
            body = orjson.dumps({"error": error.error})
            self.transport.write(response(error.status, body, error.headers, b"", False))
        self.transport.close()

    def _end_input(self) -> bool:
        """Read no further, and give up the request that has not come whole.

        Return whether an answer is still owed: the connection ends with the last one.
        """
        self._input_ended = True
        if self._held.is_there:
            self._held.end()
        elif self.parser.in_body and not self.cycle.response_complete:
            cycle = self.cycle
            self._bodies.drop(cycle)
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle is self._active:
                self._active = None
            elif self.pipeline:
                self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._active
        if last is None or last.response_complete:
            return False
        last.keep_alive = False
        # What comes is thrown away, not left: else the system resets the connection at its end,
        # and the last answer may never be read.
        self.flow.resume_reading()
        return True

    def _is_answering(self) -> bool:
        return self._active is not None and not self._active.response_complete

    def _end_wait_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end(self) -> None:
        if not (self._held.is_there or self._is_answering()):
            self.transport.close()


def _no_room() -> RequestError:
    return RequestError(503, "Too much is being received: try again", b"retry-after: 1\r\n")
