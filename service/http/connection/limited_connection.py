"""A connection with limits: how long it may be idle, how much it may leave unread, how it closes.

What is received on it is the subject of `protocol.py`.
"""

import asyncio

from service.http.connection.server_limits import limits_of
from service.http.uvicorn_compat import FlowControl, ServerState, get_remote_addr, is_ssl


class LimitedConnection(asyncio.Protocol):
    """One connection of a server."""

    header_timeout = 10.0
    """Seconds in which a connection without an active request must send a complete header. Between
    two requests, the keep-alive timeout of the settings applies first."""
    max_connections = 10_000
    """For each further connection, the longest idle one is closed."""
    write_timeout = 30.0
    """Seconds in which a client must read enough of a response that the socket accepts the rest.
    Otherwise the connection is aborted, even if it is about to be closed."""
    linger = 1.0
    """Seconds for which input is read and ignored after a response that was sent before the end of
    its request. If unread input remains, the system resets the connection, and the client may lose
    the response."""
    linger_bytes = 1024 * 1024
    """Maximum bytes of input that are ignored in that time."""

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(self, server_state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.client: tuple[str, int] | None = None
        self._server_state = server_state
        self._loop = loop
        self._limits = limits_of(server_state)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._lingers = False
        self._ignored = 0
        """Bytes received since the connection lingers."""

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
            self.on_too_many()
        else:
            self._become_idle(self.header_timeout)

    def on_too_many(self) -> None:
        """Refuse this connection: there are too many, and all of them are busy."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._become_busy()
        self._on_read()

    def evict(self) -> None:
        """Close this idle connection to admit a new one."""
        if self.flow.write_paused:
            self.abort()  # `close` would wait until the client reads
        else:
            self.transport.close()

    def abort(self) -> None:
        """Abort the connection, and discard unread output."""
        self.transport.abort()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        if self._write_timer is None:
            self._write_timer = self._loop.call_later(self.write_timeout, self.abort)
        self._limits.unread.add(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._on_read()

    def _on_read(self) -> None:
        """Take note that the client has read its response, or never will."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._limits.unread.discard(self)
        self.flow.resume_writing()

    def _become_idle(self, seconds: float) -> None:
        """Close the connection unless it becomes busy, or idle again, within this time."""
        self._limits.idle.mark_idle(self)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(seconds, self._on_idle_timeout)

    def _become_busy(self) -> None:
        self._limits.idle.mark_busy(self)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _on_idle_timeout(self) -> None:
        self._idle_timer = None
        if not self.flow.write_paused:  # a client that does not read has `write_timeout`
            self.transport.close()

    def _close_lingering(self) -> None:
        """Close the output; ignore input until the client closes its side, or for `linger`
        seconds."""
        self._lingers = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS: its close also sends what is left, and waits for the client's
            self.transport.close()
        self.flow.resume_reading()
        self._become_idle(self.linger)

    def _ignore(self, data: bytes) -> None:
        """Ignore input; close the connection that sends too much of it while it lingers."""
        if self._lingers:
            self._ignored += len(data)
            if self._ignored > self.linger_bytes:
                self.transport.close()


def _without_mapping(address: tuple[str, int] | None) -> tuple[str, int] | None:
    """An IPv4 address as such, which a socket for both families shows as `::ffff:192.0.2.1`."""
    if address is None:
        return None
    host, port = address
    return host.removeprefix("::ffff:") if "." in host else host, port
