"""Bodies that have come and that no application has taken yet, bounded for a whole server.

uvicorn bounds them for each connection, to 64 KiB and a read: thousands of connections are
thousands of times that.
"""

from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.http.idle_connections import IdleConnections

MAX_PENDING_BYTES = 32 * 1024 * 1024
"""Bytes of bodies that may wait for their applications, on all connections of a server."""


class PendingBodyLimit:
    """What waits on one connection."""

    def __init__(self, idle_connections: IdleConnections) -> None:
        self._idle_connections = idle_connections
        self._sizes: dict[RequestResponseCycle, int] = {}

    def has_room(self, size: int) -> bool:
        """Tell whether so much more may wait."""
        return self._idle_connections.pending_bytes + size <= MAX_PENDING_BYTES

    def track(self, cycle: RequestResponseCycle, app: Any) -> Any:
        """The application, with note taken when it takes the body of a request."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            async def take() -> Message:
                message = await receive()
                self._release(cycle)
                return message

            await app(scope, take, send)

        return run

    def add(self, cycle: RequestResponseCycle, size: int) -> None:
        """Count what has come of a body."""
        self._sizes[cycle] = self._sizes.get(cycle, 0) + size
        self._idle_connections.pending_bytes += size

    def drop(self, cycle: RequestResponseCycle) -> None:
        """Throw away what waits of a body."""
        cycle.body = bytearray()
        self._release(cycle)

    def drop_completed(self) -> None:
        """Throw away what is left of requests that were answered before their bodies were taken."""
        for cycle in [each for each in self._sizes if each.response_complete]:
            self.drop(cycle)

    def clear(self) -> None:
        """Throw everything away: the connection is over."""
        for cycle in [*self._sizes]:
            self.drop(cycle)

    def _release(self, cycle: RequestResponseCycle) -> None:
        self._idle_connections.pending_bytes -= self._sizes.pop(cycle, 0)
