"""Memory of request heads, and of bytes that are not parsed yet, bounded for a whole server.

A connection may hold one head of 64 KiB that has not come whole, or that is being answered, and in
addition what its client sent before the answer. On thousands of connections this is too much.
"""

from service.http.idle_connections import IdleConnections

FREE = 4 * 1024
"""Bytes that each connection may hold in any case: ordinary requests are never refused for what
other connections hold."""
MAX_HEADS = 32 * 1024 * 1024
"""Bytes that all connections of a server may hold in addition."""


class Heads:
    """What one connection holds."""

    __slots__ = ("_idle_connections", "counted")

    def __init__(self, idle_connections: IdleConnections) -> None:
        self._idle_connections = idle_connections
        self.counted = 0
        """Bytes in addition to those that are free."""

    def hold(self, size: int) -> bool:
        """Set what the connection holds, in bytes; False: that exceeds what all may hold."""
        counted = max(0, size - FREE)
        if counted != self.counted:
            more = counted - self.counted
            if more > 0 and self._idle_connections.head_bytes + more > MAX_HEADS:
                return False
            self._idle_connections.head_bytes += more
            self.counted = counted
        return True
