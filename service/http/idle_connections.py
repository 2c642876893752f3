"""The crowd: what the connections of one server know of each other.

That is those on which nothing is being answered, the longest so first, and what all of them hold.
"""

from collections import OrderedDict
from typing import Protocol
from weakref import WeakKeyDictionary

from service.http.unread_responses import UnreadResponses


class Closeable(Protocol):
    def evict(self) -> None: ...


class IdleConnections:
    """Knows who has to go when somebody else needs the place."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Closeable, None] = OrderedDict()
        self.buffered_bytes = 0
        """Bytes of all requests that are held, as they will be when they are complete."""
        self.head_bytes = 0
        """Bytes of heads, and of what is not parsed yet (service.http.head_memory)."""
        self.pending_bytes = 0
        """What has come of the other bodies and was not taken by their applications."""
        self.unread = UnreadResponses()
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_lines = b""

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The headers of every answer as lines; uvicorn makes a new list each second."""
        if headers is not self._headers:
            self._header_lines = b"".join([b"%b: %b\r\n" % each for each in headers])
            self._headers = headers
        return self._header_lines

    def mark_idle(self, connection: Closeable) -> None:
        """Wait from now on, if it does not wait already."""
        self._idle.setdefault(connection)

    def mark_busy(self, connection: Closeable) -> None:
        """Wait no more: something is being answered, or it has ended."""
        self._idle.pop(connection, None)

    def evict_oldest(self) -> bool:
        """Close the connection that has waited the longest; False if none waits."""
        if not self._idle:
            return False
        connection, _ = self._idle.popitem(last=False)
        connection.evict()
        return True


_by_server: WeakKeyDictionary[object, IdleConnections] = WeakKeyDictionary()


def idle_connections_of(server: object) -> IdleConnections:
    """The one crowd of a server, which is whatever its connections have in common."""
    return _by_server.setdefault(server, IdleConnections())
