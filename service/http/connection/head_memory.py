"""Bounds the memory of request heads and unparsed input of all connections of a server.

A connection may hold one head of 64 KiB, which is incomplete or belongs to the active request, and
the input that its client sent before the response. On thousands of connections this is too much.
"""

from service.http.connection.idle_connections import IdleConnections

FREE = 4 * 1024
"""Bytes that each connection may always hold, so that ordinary requests are never refused because
of other connections."""
MAX_HEADS = 32 * 1024 * 1024
"""Bytes that all connections of a server may hold in addition."""


class Heads:
    """The bytes that one connection holds."""

    __slots__ = ("_idle_connections", "counted")

    def __init__(self, idle_connections: IdleConnections) -> None:
        self._idle_connections = idle_connections
        self.counted = 0
        """Bytes beyond FREE."""

    def hold(self, size: int) -> bool:
        """Set the number of bytes that the connection holds; return False if this exceeds
        MAX_HEADS."""
        counted = max(0, size - FREE)
        if counted != self.counted:
            more = counted - self.counted
            if more > 0 and self._idle_connections.head_bytes + more > MAX_HEADS:
                return False
            self._idle_connections.head_bytes += more
            self.counted = counted
        return True
