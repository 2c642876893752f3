"""State shared by the connections of one server: which are idle, and how much memory they use."""

from collections import OrderedDict
from typing import Protocol
from weakref import WeakKeyDictionary

from service.http.connection.unread_responses import UnreadResponses


class Closeable(Protocol):
    def evict(self) -> None: ...


class IdleConnections:
    """Tracks idle connections, so that the longest idle one can be closed for a new connection."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Closeable, None] = OrderedDict()
        self.buffered_bytes = 0
        """Total size that all buffered requests will have when they are complete."""
        self.head_bytes = 0
        """Bytes of request heads and unparsed input (service.http.connection.head_memory)."""
        self.pending_bytes = 0
        """Bytes of other bodies that were received but not yet read by their applications."""
        self.unread = UnreadResponses()
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_lines = b""

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Encode the default headers of responses; cached, because uvicorn makes a new list each
        second."""
        if headers is not self._headers:
            self._header_lines = b"".join([b"%b: %b\r\n" % each for each in headers])
            self._headers = headers
        return self._header_lines

    def mark_idle(self, connection: Closeable) -> None:
        """Mark a connection as idle, unless it is idle already."""
        self._idle.setdefault(connection)

    def mark_busy(self, connection: Closeable) -> None:
        """Mark a connection as busy or closed."""
        self._idle.pop(connection, None)

    def evict_oldest(self) -> bool:
        """Close the connection that has been idle the longest; return False if there is none."""
        if not self._idle:
            return False
        connection, _ = self._idle.popitem(last=False)
        connection.evict()
        return True


_by_server: WeakKeyDictionary[object, IdleConnections] = WeakKeyDictionary()


def idle_connections_of(server: object) -> IdleConnections:
    """Return the shared state of a server; all its connections pass the same `server` object."""
    return _by_server.setdefault(server, IdleConnections())
