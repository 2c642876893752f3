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
from service.http.connection.limited_connection import LimitedConnection
from service.http.connection.request_buffer import RequestBuffer, is_plain
from service.http.connection.request_head import Request, RequestError
from service.http.connection.request_parser import RequestParser
from service.http.uvicorn_compat import Config, ServerState
from service.memory_budget import BudgetExceededError, Reservation

log = structlog.get_logger(__name__)

FREE_HEAD = 4 * 1024
"""Bytes of heads and unparsed input that a connection may always hold, so that ordinary requests
are never refused because of other connections."""


class LimitedProtocol(LimitedConnection):
    """HTTP/1 on one connection. uvicorn.Server creates it, and calls `shutdown` when it stops."""

    max_header_bytes = 64 * 1024
    max_pipelined = 32
    """Pipelined requests that a client may send without waiting for a response. The connection is
    closed after the response to the last one, so that each client gets its share of the CPU."""
    shutdown_timeout = 0.5
    """Seconds after a stop has begun in which a connection may send one more request. The request
    was on its way, and its client would not know its result."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(server_state, _loop or asyncio.get_running_loop())
        self._config = config
        self._app_state = app_state
        # Of the application itself, not of uvicorn's wrappers.
        self._fast_path: FastPathHandler | None = getattr(config.app, "fast_path", None)
        self._parser = RequestParser(self, self.max_header_bytes)
        self._active: AsgiCycle | FastPathExchange | None = None
        """The request whose response is not complete."""
        self._incoming: AsgiCycle | None = None
        """The request whose body is being received, unless it is buffered."""
        self._stopping = False
        self._input_ended = False
        """Whether further input is ignored."""
        self._at_eof = False
        """Whether the client has closed its side; earlier input may still be unparsed."""
        self._pipelined = 0
        """Requests since the client last waited for a response."""
        self._is_parsing = False
        self._continues = False
        """Whether parsing continues in the next iteration of the event loop."""
        self._was_answered = False
        """Whether a request was completed since the timer was started."""
        self._heads = Reservation(self._limits.heads)
        """Bytes of heads and unparsed input beyond FREE_HEAD."""
        self._head_size = 0
        """Bytes that are counted for the head of the active request."""
        self._buffer = RequestBuffer(self._loop, self._limits.buffered, self._release_buffer)
        self._is_idle = False

    def on_too_many(self) -> None:
        full = "Too many connections: try again"
        self._refuse(RequestError(503, full, b"retry-after: 1\r\n"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._buffer.release()
        self._heads.resize(0)
        self._input_ended = True
        self._parser.discard()
        if self._active is not None:
            self._active.disconnect()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._parser.is_paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._active is None:
            self._parser.is_paused = False
            self._was_answered = True
            self._continue()

    def data_received(self, data: bytes) -> None:
        if self._input_ended:
            self._ignore(data)
        else:
            self._parse(data)

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
            self._become_idle(self.shutdown_timeout)

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
        return self._limits.header_lines(self._server_state.default_headers)

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
        if self._buffer.request is not None or self._active is not None:
            self._become_busy()
            if self._buffer.request is not None:
                self._buffer.start_timer()
        elif self._input_ended:
            return
        elif self._was_answered:
            self._is_idle = self._parser.is_between
            if self._is_idle:
                self._pipelined = 0
            self._become_idle(
                self._config.timeout_keep_alive if self._is_idle else self.header_timeout
            )
        elif (self._is_idle and not self._stopping) or self._idle_timer is None:
            self._is_idle = False
            self._become_idle(self.header_timeout)
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
        except Exception as error:  # whatever failed, the client gets a response
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
        if self._lingers or self.transport.is_closing():
            return
        self._input_ended = True
        self._parser.discard()
        if self._active is not None:
            self._active.disconnect()
            self._active = None
        self._close_lingering()

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
