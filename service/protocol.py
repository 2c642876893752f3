"""HTTP on one connection: a strict parser, limits, and errors in JSON.

What comes before a handler is called is a stranger's: without limits a header that grows, or one
that never ends, takes memory and connections that nobody gave it.

A connection handles one request at a time. While a request is being answered, and while the client
does not read, what comes next stays unparsed, and reading is paused. A request that an application
can answer directly (service.direct) goes there as soon as it has come whole, until which it is
held; ASGI is entered only where it must.

Every request that has come whole is answered, in order, and once. Where nothing more can be read
for certain (the sender has closed its side, asked for the end, or sent what is no request), the
connection ends with the last of these answers.
"""

import asyncio
import logging
from typing import Any

import orjson
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from service.countdown import Countdown
from service.crowd import crowd_of
from service.cycles import make_cycle
from service.direct import Direct, Exchange, response
from service.heads import FREE, Heads
from service.held import Held, is_plain
from service.request_parser import Request, RequestError, RequestParser
from service.unread import Unread

log = structlog.get_logger(__name__)
_uvicorn_log = logging.getLogger("uvicorn.error")


class _Output:
    """The transport of a request cycle: to close it leaves the client time to read."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: "LimitedProtocol", transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self.write = transport.write
        self.is_closing = transport.is_closing

    def close(self) -> None:
        self._protocol.finish()


class LimitedProtocol(asyncio.Protocol):
    """One connection, with limits. uvicorn.Server makes it, and calls `shutdown` at a stop."""

    max_header_bytes = 64 * 1024
    header_within = 10.0
    """Seconds in which a connection must bring a whole header whenever nothing is being answered;
    between two requests the keep-alive time of the settings comes before it."""
    max_connections = 10_000
    """For one more, the one goes on which nothing has been answered for the longest time."""
    max_pipelined = 32
    """Requests in a row that a client may send before it has the response to the one before. The
    connection ends with the response to the last of them: each client gets its share of the CPU."""
    read_within = 30.0
    """Seconds in which a client must have read what was written, so far that more may be; whoever
    does not is gone, and a connection that waits to be closed is no exception."""

    last_within = 0.5
    """Seconds after a stop has begun in which a connection may bring one more request: it was on
    its way when the stop began, and its client could not know what became of it."""
    linger = 1.0
    """Seconds for which input is read and ignored after a response that comes before the end of its
    request. If unread input is left, the system resets the connection, and the client may lose the
    response."""

    linger_bytes = 1024 * 1024
    """Bytes of input that are ignored in that time at most."""

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.client: tuple[str, int] | None = None
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        # Of the application itself, whatever uvicorn has put around it.
        self._direct: Direct | None = getattr(config.app, "direct", None)
        self._parser = RequestParser(self, self.max_header_bytes)
        self._active: RequestResponseCycle | Exchange | None = None
        """The request that is being answered."""
        self._incoming: RequestResponseCycle | None = None
        """The request whose body is coming, unless it is held."""
        self._unread: asyncio.TimerHandle | None = None
        self._stopping = False
        self._input_ended = False
        """Nothing that comes counts any more."""
        self._at_eof = False
        """The client has closed its side; what came before that may not be parsed yet."""
        self._lingers = False
        self._ignored = 0
        """Bytes that have come since the connection lingers."""
        self._pipelined = 0
        """Requests since the client has last waited for a response."""
        self._is_parsing = False
        self._continues = False
        """Whether parsing continues in the next iteration of the event loop."""
        self._was_answered = False
        """Whether a request was completed since the countdown was set."""
        self._crowd = crowd_of(server_state)
        self._heads = Heads(self._crowd)
        self._head_size = 0
        """Bytes that the head of the active request counts for."""
        self._bodies = Unread(self._crowd)
        self._held = Held(self._loop, self._crowd, self._release_held)
        self._is_idle = False
        self._countdown = Countdown(self._loop, self._end)
        """To the end of the connection, unless something comes or is being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connections = self._server_state.connections
        connections.add(self)  # type: ignore[arg-type]
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client = get_remote_addr(transport)
        if len(connections) > self.max_connections and not self._crowd.thin_out():
            full = "Too many connections: try again"
            self._refuse(RequestError(503, full, b"retry-after: 1\r\n"))
        else:
            self._crowd.join(self)
            self._countdown.set(self.header_within)

    def close_for_another(self) -> None:
        """Give way to a new connection: nothing is being answered on this one."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._end_wait_for_reader()
        self._crowd.leave(self)
        self._held.end()
        self._bodies.end()
        self._heads.hold(0)
        self._countdown.drop()
        self._input_ended = True
        self._parser.discard()
        if self._active is not None:
            self._active.disconnected = True
            self._active.message_event.set()
        self.flow.resume_writing()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._parser.is_paused = True
        if self._unread is None:
            self._unread = self._loop.call_later(self.read_within, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_wait_for_reader()
        self.flow.resume_writing()
        if self._active is None:
            self._parser.is_paused = False
            self._was_answered = True
            self._continue()

    def data_received(self, data: bytes) -> None:
        if not self._input_ended:
            self._parse(data)
        elif self._lingers:
            self._ignored += len(data)
            if self._ignored > self.linger_bytes:
                self.transport.close()

    def eof_received(self) -> bool:
        """Answer what has come whole; its sender sends nothing more, but may read."""
        self._at_eof = True
        return self._continues or self._parser.is_waiting or self._end_input()

    def shutdown(self) -> None:
        """Finish what is being answered, or what comes at once, and nothing else.

        A pipelined request that has not begun would get its whole time only then: a stop would
        have to cut it off with its fate undecided.
        """
        self._stopping = True
        if self._held.request is not None:
            self._release_held()
        if self._active is not None:
            self._active.keep_alive = False
        else:
            self._countdown.set(self.last_within)

    def on_response_complete(self) -> None:
        """Continue with the next request."""
        self._server_state.total_requests += 1
        self._active = None
        if self._stopping or self._input_ended:
            self.finish()
        if self._lingers or self.transport.is_closing():
            return
        self._was_answered = True
        self._parser.is_paused = self.flow.write_paused
        if not self._is_parsing:
            self._bodies.drop_answered()
            self._head_size = 0
            self._continue()

    def finish(self) -> None:
        """Close after what was written; input that is still coming is read for a moment."""
        if self._parser.in_body or self._pipelined > self.max_pipelined or self._lingers:
            self._linger()
        else:
            self.transport.close()

    def on_request(self, request: Request, body: bytes | None) -> bool:
        self._pipelined += 1
        if self._pipelined > self.max_pipelined:
            request = request._replace(keep_alive=False)
        if (
            self._direct is not None
            and request.method == b"POST"
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
        if self._held.request is not None:
            self._held.add(body)
        elif self._incoming is not None and not self._incoming.response_complete:
            if not self._bodies.has_room(len(body)):
                raise _no_room()
            self._take_body(self._incoming, body)

    def on_message_complete(self) -> None:
        if self._held.request is not None:
            if self._answer_directly(self._held.request, self._held.body()):
                self._held.end()
                return
            self._enter_asgi()
        cycle, self._incoming = self._incoming, None
        if cycle is None:
            return
        if cycle.response_complete:
            self._was_answered = True
        else:
            cycle.more_body = False
            cycle.message_event.set()

    def write_answer(self, status: int, body: bytes, headers: bytes, keep_alive: bool) -> None:
        """Write an answer as one piece, and close where nothing may follow it."""
        default = self._crowd.header_lines(self._server_state.default_headers)
        self.transport.write(response(status, body, headers, default, keep_alive))
        if not keep_alive:
            self.finish()

    def _parse(self, data: bytes) -> None:
        """Parse what was left and `data`, as far as its requests may begin."""
        self._is_parsing = True
        try:
            more = self._parser.feed(data)
        except RequestError as error:
            more = False
            self._refuse(error)
        self._is_parsing = False
        parser = self._parser
        if more and not self._continues:
            self._continues = True
            self._loop.call_soon(self._continue_later)
        if more or parser.is_waiting:
            self.flow.pause_reading()
        size = parser.unparsed + self._head_size
        if (size > FREE or self._heads.counted) and not self._heads.hold(size):
            self._refuse(_no_room())
        self._set_countdown()
        if self._at_eof and not (more or parser.is_waiting or self._end_input()):
            self.transport.close()

    def _set_countdown(self) -> None:
        if self._held.request is not None:
            self._countdown.stop()
            self._crowd.leave(self)
            self._held.wait()
        elif self._active is not None:
            self._countdown.stop()
            self._crowd.leave(self)
        elif self._input_ended:
            return
        elif self._was_answered:
            self._crowd.join(self)
            self._is_idle = self._parser.is_between
            if self._is_idle:
                self._pipelined = 0
            self._countdown.set(
                self._config.timeout_keep_alive if self._is_idle else self.header_within
            )
        elif (self._is_idle and not self._stopping) or not self._countdown.runs:
            self._is_idle = False
            self._countdown.set(self.header_within)
        self._was_answered = False

    def _continue_later(self) -> None:
        self._continues = False
        self._continue()

    def _continue(self) -> None:
        """Parse what is left, and read on."""
        if self._is_parsing or self._input_ended or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._parse(b"")

    def _answer_directly(self, request: Request, body: bytes) -> bool:
        assert self._direct is not None
        self._active = exchange = Exchange(self, request.keep_alive)
        try:
            taken = self._direct(request.target, request.fields, body, exchange)
        except Exception as error:
            log.error(
                "request failed", path=request.target.decode(errors="replace"), exc_info=error
            )
            exchange.answer(500, b'{"error":"Internal server error"}')
            taken = True
        if not taken:
            self._active = None
        elif not exchange.response_complete:
            self._parser.is_paused = True
        return taken

    def _release_held(self) -> None:
        try:
            self._enter_asgi()
        except RequestError as error:
            self._refuse(error)

    def _enter_asgi(self) -> None:
        """Let the request that is held go the ordinary way, with as much as has come of it.

        Raises:
            RequestError: there is no room for that; it is held still.
        """
        request = self._held.request
        assert request is not None
        if not self._bodies.has_room(self._held.received):
            raise _no_room()
        self._begin_cycle(request)
        assert self._incoming is not None
        for piece in self._held.end():
            self._take_body(self._incoming, piece)

    def _take_body(self, cycle: RequestResponseCycle, piece: bytes) -> None:
        cycle.body += piece
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()
        self._bodies.add(cycle, len(piece))

    def _begin_cycle(self, request: Request) -> None:
        """Call the application.

        Raises:
            RequestError: there is no room for the head of the request.
        """
        size = request.size
        if size > FREE and not self._heads.hold(size):
            raise _no_room()
        self._head_size = size
        raw_path, _, query = request.target.partition(b"?")
        path = raw_path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": request.version,
            "server": get_local_addr(self.transport),
            "client": self.client,
            "scheme": "https" if is_ssl(self.transport) else "http",
            "method": request.method.decode("ascii"),
            "root_path": "",
            # Never decoded: proxies route by the path as it was sent, so this does, too.
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": request.headers(),
            "state": self._app_state.copy(),
        }
        cycle = make_cycle(
            request,
            scope=scope,
            transport=_Output(self, self.transport),
            flow=self.flow,
            logger=_uvicorn_log,
            access_logger=_uvicorn_log,
            access_log=False,
            default_headers=self._server_state.default_headers,
            keep_alive=request.keep_alive and not self._stopping,
            on_response=self.on_response_complete,
        )
        self._active = self._incoming = cycle
        self._parser.is_paused = True
        app = self._bodies.noted(cycle, self._config.loaded_app)
        task = self._loop.create_task(cycle.run_asgi(app))
        tasks = self._server_state.tasks
        task.add_done_callback(tasks.discard)
        tasks.add(task)

    def _refuse(self, error: RequestError) -> None:
        """Read no further: answer what has come whole, else say what is wrong, and close.

        Nothing is said where that would be taken for the answer to another request, or follow
        the beginning of an answer to the same one.
        """
        begun = self._incoming
        if self._end_input():
            return
        if begun is None or not (begun.response_started or begun.response_complete):
            # Without the application's headers: what is refused here says nothing about a sample.
            body = orjson.dumps({"error": error.error})
            self.transport.write(response(error.status, body, error.headers, b"", False))
        self._linger()

    def _linger(self) -> None:
        """End the output; ignore input until the client has closed its side, or for a moment."""
        if self._lingers or self.transport.is_closing():
            return
        self._lingers = self._input_ended = True
        if self._active is not None:
            self._active.disconnected = True
            self._active.message_event.set()
            self._active = None
        self._parser.discard()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._crowd.join(self)
        self._countdown.set(self.linger)

    def _end_input(self) -> bool:
        """Read no further, and give up the request that has not come whole.

        Return whether an answer is still owed: the connection ends with the last one.
        """
        self._input_ended = True
        self._parser.discard()
        if self._held.request is not None:
            self._held.end()
        cycle, self._incoming = self._incoming, None
        if cycle is not None and not cycle.response_complete:
            self._bodies.drop(cycle)
            cycle.disconnected = True
            cycle.message_event.set()
            self._active = None
        if self._active is None:
            return False
        self._active.keep_alive = False
        # What comes is thrown away, not left: else the system resets the connection at its end,
        # and the last answer may never be read.
        self.flow.resume_reading()
        return True

    def _end_wait_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end(self) -> None:
        # Whoever does not read has `read_within`.
        if self._held.request is None and self._active is None and not self.flow.write_paused:
            self.transport.close()


def _no_room() -> RequestError:
    return RequestError(503, "Too much is being received: try again", b"retry-after: 1\r\n")
