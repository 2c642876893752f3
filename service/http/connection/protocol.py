"""HTTP/1 on one connection: a strict parser, limits, and errors in JSON.

Input before the handler is called is untrusted. Without limits, a growing or endless header would
take memory and connections.

A connection handles one request at a time. While a request is active, and while the client does not
read responses, further input stays unparsed and reading is paused. A request for the fast path
(`fast_path.py`) is buffered until it is complete. ASGI is used only for other requests.

Every complete request gets exactly one response, in order. If no further request can be read (the
client has closed its side, sent `Connection: close`, or sent invalid input), the connection is
closed after the last of these responses.
"""

import asyncio
from typing import Any

import orjson
import structlog

from service.http.connection.asgi_cycle import AsgiCycle, make_scope
from service.http.connection.fast_path import (
    FastPathExchange,
    FastPathHandler,
    encode_error,
)
from service.http.connection.request_buffer import RequestBuffer, is_plain
from service.http.connection.request_head import Request, RequestError
from service.http.connection.request_parser import RequestParser
from service.http.connection.server_limits import limits_of
from service.http.uvicorn_compat import (
    Config,
    FlowControl,
    ServerState,
    get_remote_addr,
    is_ssl,
)
from service.memory_budget import BudgetExceededError, Reservation

log = structlog.get_logger(__name__)

FREE_HEAD = 4 * 1024
"""Bytes of heads and unparsed input that a connection may always hold, so that ordinary requests
are never refused because of other connections."""


class LimitedProtocol(asyncio.Protocol):
    """One connection with limits. uvicorn.Server creates it, and calls `shutdown` when it stops."""

    max_header_bytes = 64 * 1024
    header_timeout = 10.0
    """Seconds in which a connection without an active request must send a complete header. Between
    two requests, the keep-alive timeout of the settings applies first."""
    max_connections = 10_000
    """For each further connection, the longest idle one is closed."""
    max_pipelined = 32
    """Pipelined requests that a client may send without waiting for a response. The connection is
    closed after the response to the last one, so that each client gets its share of the CPU."""
    write_timeout = 30.0
    """Seconds in which a client must read enough of a response that the socket accepts the rest.
    Otherwise the connection is aborted, even if it is about to be closed."""

    shutdown_timeout = 0.5
    """Seconds after a stop has begun in which a connection may send one more request. The request
    was on its way, and its client would not know its result."""
    linger = 1.0
    """Seconds for which input is read and ignored after a response that was sent before the end of
    its request. If unread input remains, the system resets the connection, and the client may lose
    the response."""

    linger_bytes = 1024 * 1024
    """Maximum bytes of input that are ignored in that time."""

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
        # Of the application itself, not of uvicorn's wrappers.
        self._fast_path: FastPathHandler | None = getattr(config.app, "fast_path", None)
        self._parser = RequestParser(self, self.max_header_bytes)
        self._active: AsgiCycle | FastPathExchange | None = None
        """The request whose response is not complete."""
        self._incoming: AsgiCycle | None = None
        """The request whose body is being received, unless it is buffered."""
        self._write_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._input_ended = False
        """Whether further input is ignored."""
        self._at_eof = False
        """Whether the client has closed its side; earlier input may still be unparsed."""
        self._lingers = False
        self._ignored = 0
        """Bytes received since the connection lingers."""
        self._pipelined = 0
        """Requests since the client last waited for a response."""
        self._is_parsing = False
        self._continues = False
        """Whether parsing continues in the next iteration of the event loop."""
        self._was_answered = False
        """Whether a request was completed since the timer was started."""
        self._limits = limits_of(server_state)
        self._heads = Reservation(self._limits.heads)
        """Bytes of heads and unparsed input beyond FREE_HEAD."""
        self._head_size = 0
        """Bytes that are counted for the head of the active request."""
        self._buffer = RequestBuffer(self._loop, self._limits.buffered, self._release_buffer)
        self._is_idle = False
        self._idle_timer: asyncio.TimerHandle | None = None
        """Closes the connection while no request is received or active."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connections = self._server_state.connections
        connections.add(self)  # type: ignore[arg-type]
        self.transport = transport
        self.flow = FlowControl(transport)
        # Writing pauses as soon as the socket accepts no more, so all unread bytes are counted.
        # TLS pauses at its limit, not above it: with a limit of 0 it would pause without output.
        transport.set_write_buffer_limits(1 if is_ssl(transport) else 0, 0)
        self.client = _without_mapping(get_remote_addr(transport))
        if len(connections) > self.max_connections and not self._limits.idle.evict_oldest():
            full = "Too many connections: try again"
            self._refuse(RequestError(503, full, b"retry-after: 1\r\n"))
        else:
            self._limits.idle.mark_idle(self)
            self._start_idle_timer(self.header_timeout)

    def evict(self) -> None:
        """Close this idle connection to admit a new one."""
        if self.flow.write_paused:
            self.abort()  # `close` would wait until the client reads
        else:
            self.transport.close()

    def abort(self) -> None:
        """Abort the connection, and discard unread output."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._cancel_write_timeout()
        self._limits.idle.mark_busy(self)
        self._limits.unread.discard(self)
        self._buffer.release()
        self._heads.resize(0)
        self._stop_idle_timer()
        self._input_ended = True
        self._parser.discard()
        if self._active is not None:
            self._active.disconnect()
        self.flow.resume_writing()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._parser.is_paused = True
        if self._write_timer is None:
            self._write_timer = self._loop.call_later(self.write_timeout, self.abort)
        self._limits.unread.add(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._cancel_write_timeout()
        self._limits.unread.discard(self)
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
        """Process the complete requests; the client sends no more, but may still read."""
        self._at_eof = True
        return self._continues or self._parser.is_waiting or self._end_input()

    def shutdown(self) -> None:
        """Complete the active request and any that arrives at once, and start no other.

        A pipelined request that is started during a stop might be cancelled with an unknown result.
        """
        self._stopping = True
        if self._buffer.request is not None:
            self._release_buffer()
        if self._active is not None:
            self._active.keep_alive = False
        else:
            self._start_idle_timer(self.shutdown_timeout)

    def on_response_complete(self) -> None:
        """Continue with the next request."""
        self._server_state.total_requests += 1
        if self._active is not None:
            self._active.drop_body()
            self._active = None
        if self._stopping or self._input_ended:
            self.finish()
        if self._lingers or self.transport.is_closing():
            return
        self._was_answered = True
        self._parser.is_paused = self.flow.write_paused
        if not self._is_parsing:
            self._head_size = 0
            self._continue()

    def finish(self) -> None:
        """Close the connection after the written data; read and ignore further input for a
        moment."""
        if self._parser.in_body or self._pipelined > self.max_pipelined or self._lingers:
            self._linger()
        else:
            self.transport.close()

    def on_request(self, request: Request, body: bytes | None) -> bool:
        self._pipelined += 1
        if self._pipelined > self.max_pipelined:
            request = request._replace(keep_alive=False)
        if (
            self._fast_path is not None
            and request.method == b"POST"
            and not self._stopping
            and is_plain(request)
        ):
            if body is None:
                if self._buffer.try_start(request):
                    return False
            elif self._try_fast_path(request, body):
                return True
        self._begin_cycle(request)
        return False

    def on_body(self, body: bytes) -> None:
        if self._buffer.request is not None:
            self._buffer.add(body)
        elif self._incoming is not None and not self._incoming.response_complete:
            self._incoming.append(body)

    def on_message_complete(self) -> None:
        if self._buffer.request is not None:
            if self._try_fast_path(self._buffer.request, self._buffer.body()):
                self._buffer.release()
                return
            self._enter_asgi()
        cycle, self._incoming = self._incoming, None
        if cycle is None:
            return
        if cycle.response_complete:
            self._was_answered = True
        else:
            cycle.complete_body()

    @property
    def header_lines(self) -> bytes:
        """The default header lines of a response."""
        return b"".join([b"%b: %b\r\n" % each for each in self._server_state.default_headers])

    def write_response(self, data: bytes, keep_alive: bool) -> None:
        """Write a response in one call, and close the connection if it is the last one."""
        self.transport.write(data)
        if not keep_alive:
            self.finish()

    def _parse(self, data: bytes) -> None:
        """Parse the remaining input and `data`, as far as requests may begin."""
        self._is_parsing = True
        try:
            more = self._parser.feed(data)
        except (RequestError, BudgetExceededError) as error:
            more = False
            self._refuse(error)
        self._is_parsing = False
        parser = self._parser
        if more and not self._continues:
            self._continues = True
            self._loop.call_soon(self._continue_later)
        if more or parser.is_waiting:
            self.flow.pause_reading()
        try:
            self._reserve_head(parser.unparsed + self._head_size)
        except BudgetExceededError as error:
            self._refuse(error)
        self._set_countdown()
        if self._at_eof and not (more or parser.is_waiting or self._end_input()):
            self.transport.close()

    def _set_countdown(self) -> None:
        if self._buffer.request is not None:
            self._stop_idle_timer()
            self._limits.idle.mark_busy(self)
            self._buffer.start_timer()
        elif self._active is not None:
            self._stop_idle_timer()
            self._limits.idle.mark_busy(self)
        elif self._input_ended:
            return
        elif self._was_answered:
            self._limits.idle.mark_idle(self)
            self._is_idle = self._parser.is_between
            if self._is_idle:
                self._pipelined = 0
            self._start_idle_timer(
                self._config.timeout_keep_alive if self._is_idle else self.header_timeout
            )
        elif (self._is_idle and not self._stopping) or self._idle_timer is None:
            self._is_idle = False
            self._start_idle_timer(self.header_timeout)
        self._was_answered = False

    def _continue_later(self) -> None:
        self._continues = False
        self._continue()

    def _continue(self) -> None:
        """Parse the remaining input, and resume reading."""
        if self._is_parsing or self._input_ended or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._parser.unparsed or self._at_eof or self._heads.size:
            self._parse(b"")
        else:
            self._set_countdown()

    def _try_fast_path(self, request: Request, body: bytes) -> bool:
        assert self._fast_path is not None
        self._active = exchange = FastPathExchange(self, request)
        try:
            taken = self._fast_path(request.target, request.fields, body, exchange)
        except Exception as error:
            log.error(
                "request failed", path=request.target.decode(errors="replace"), exc_info=error
            )
            exchange.respond(500, b'{"error":"Internal server error"}')
            taken = True
        if not taken:
            self._active = None
        elif not exchange.response_complete:
            self._parser.is_paused = True
        return taken

    def _release_buffer(self) -> None:
        try:
            self._enter_asgi()
        except BudgetExceededError as error:
            self._refuse(error)

    def _enter_asgi(self) -> None:
        """Pass the buffered request to ASGI, with the part of its body that was received.

        Raises:
            BudgetExceededError: there is no capacity for it; the request stays buffered.
        """
        request = self._buffer.request
        assert request is not None
        self._begin_cycle(request, self._buffer.body())
        self._buffer.release()

    def _begin_cycle(self, request: Request, body: bytes = b"") -> None:
        """Start the application's task for a request; `body` is the part that was received.

        Raises:
            BudgetExceededError: there is no capacity for its head or body.
        """
        self._reserve_head(request.size)
        cycle = AsgiCycle(
            request,
            body,
            self._limits.pending,
            self.transport,
            self.finish,
            scope=make_scope(request, self.transport, self.client, self._app_state),
            flow=self.flow,
            default_headers=self._server_state.default_headers,
            keep_alive=request.keep_alive and not self._stopping,
            on_response=self.on_response_complete,
        )
        self._head_size = request.size
        self._active = self._incoming = cycle
        self._parser.is_paused = True
        task = self._loop.create_task(cycle.run_asgi(self._config.loaded_app))
        tasks = self._server_state.tasks
        task.add_done_callback(tasks.discard)
        tasks.add(task)

    def _reserve_head(self, size: int) -> None:
        """Count bytes of heads and unparsed input.

        Raises:
            BudgetExceededError: all connections together hold too many.
        """
        if size > FREE_HEAD or self._heads.size:
            self._heads.resize(max(0, size - FREE_HEAD))

    def _refuse(self, error: RequestError | BudgetExceededError) -> None:
        """Stop reading. Respond to complete requests, or else with the error, and close the
        connection.

        No error is sent if it could be mistaken for the response to another request, or if the
        response to this request was started.
        """
        if isinstance(error, BudgetExceededError):
            error = RequestError(503, str(error), b"retry-after: 1\r\n")
        begun = self._incoming
        if self._end_input():
            return
        if begun is None or not (begun.response_started or begun.response_complete):
            # Without MANAGER_HEADER: this response makes no statement about a sample.
            body = orjson.dumps({"error": error.error})
            accept = error.accept or self._parser.accept
            self.transport.write(
                encode_error(error.status, body, error.headers, b"", False, accept)
            )
        self._linger()

    def _linger(self) -> None:
        """Close the output; ignore input until the client closes its side, or for `linger`
        seconds."""
        if self._lingers or self.transport.is_closing():
            return
        self._lingers = self._input_ended = True
        if self._active is not None:
            self._active.disconnect()
            self._active = None
        self._parser.discard()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS: its close also sends what is left, and waits for the client's
            self.transport.close()
        self.flow.resume_reading()
        self._limits.idle.mark_idle(self)
        self._start_idle_timer(self.linger)

    def _end_input(self) -> bool:
        """Stop reading, and drop an incomplete request.

        Return whether a response is still pending; the connection is closed after the last one.
        """
        self._input_ended = True
        self._parser.discard()
        if self._buffer.request is not None:
            self._buffer.release()
        cycle, self._incoming = self._incoming, None
        if cycle is not None and not cycle.response_complete:
            cycle.disconnect()
            self._active = None
        if self._active is None:
            return False
        self._active.keep_alive = False
        # Further input is read and ignored; otherwise the system resets the connection when it is
        # closed, and the client may lose the last response.
        self.flow.resume_reading()
        return True

    def _cancel_write_timeout(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_idle_timer(self, seconds: float) -> None:
        self._stop_idle_timer()
        self._idle_timer = self._loop.call_later(seconds, self._on_idle_timeout)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _on_idle_timeout(self) -> None:
        self._idle_timer = None
        # A client that does not read is handled by `write_timeout`.
        if self._buffer.request is None and self._active is None and not self.flow.write_paused:
            self.transport.close()


def _without_mapping(address: tuple[str, int] | None) -> tuple[str, int] | None:
    """An IPv4 address as such, which a socket for both families shows as `::ffff:192.0.2.1`."""
    if address is None:
        return None
    host, port = address
    return host.removeprefix("::ffff:") if "." in host else host, port
