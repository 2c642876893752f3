"""Bounds the request bodies that were received but not yet read, for all connections of a server.

uvicorn bounds them for each connection to 64 KiB plus one read, which is too much for thousands of
connections.
"""

from typing import Any

from starlette.types import Message, Receive, Scope, Send

from service.http.connection.idle_connections import IdleConnections
from service.http.uvicorn_compat import RequestResponseCycle

MAX_PENDING_BYTES = 32 * 1024 * 1024
"""Maximum bytes of unread bodies on all connections of a server."""


class PendingBodyLimit:
    """The unread bodies of one connection."""

    def __init__(self, idle_connections: IdleConnections) -> None:
        self._idle_connections = idle_connections
        self._sizes: dict[RequestResponseCycle, int] = {}

    def has_capacity(self, size: int) -> bool:
        """Return whether `size` more bytes may be stored."""
        return self._idle_connections.pending_bytes + size <= MAX_PENDING_BYTES

    def track(self, cycle: RequestResponseCycle, app: Any) -> Any:
        """Wrap an application so that a body counts as read when the application receives it."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            async def receive_and_release() -> Message:
                message = await receive()
                self._release(cycle)
                return message

            await app(scope, receive_and_release, send)

        return run

    def add(self, cycle: RequestResponseCycle, size: int) -> None:
        """Count received bytes of a body."""
        self._sizes[cycle] = self._sizes.get(cycle, 0) + size
        self._idle_connections.pending_bytes += size

    def drop(self, cycle: RequestResponseCycle) -> None:
        """Discard the unread part of a body."""
        cycle.body = bytearray()
        self._release(cycle)

    def drop_completed(self) -> None:
        """Discard bodies of requests whose response was completed before the body was read."""
        for cycle in [each for each in self._sizes if each.response_complete]:
            self.drop(cycle)

    def clear(self) -> None:
        """Discard everything when the connection is closed."""
        for cycle in [*self._sizes]:
            self.drop(cycle)

    def _release(self, cycle: RequestResponseCycle) -> None:
        self._idle_connections.pending_bytes -= self._sizes.pop(cycle, 0)
