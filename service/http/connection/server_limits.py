"""What all connections of one server share: which ones are closed first, and memory budgets."""

from collections import OrderedDict
from typing import Protocol
from weakref import WeakKeyDictionary

from service.memory_budget import MemoryBudget

MAX_HEADS = 32 * 1024 * 1024
"""Maximum bytes of request heads and unparsed input. A connection may hold one head of 64 KiB,
which is incomplete or belongs to the active request, and the input that its client sent before the
response."""
MAX_BUFFERED_BYTES = 16 * 1024 * 1024
"""Maximum bytes of requests that are buffered until they are complete, heads and bodies."""
MAX_PENDING_BYTES = 32 * 1024 * 1024
"""Maximum bytes of bodies that were received and not yet read by their handlers. uvicorn bounds
them for each connection to 64 KiB plus one read."""
MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Maximum bytes of responses that the sockets' buffers did not accept. A connection keeps at most
one response, because no further request is parsed (`protocol.py`). Beyond the limit, the
connections that have waited longest are aborted; a single response may be larger."""


class Connection(Protocol):
    """The part of `LimitedProtocol` that is used here."""

    def evict(self) -> None: ...

    def abort(self) -> None: ...


class IdleConnections:
    """Tracks idle connections, so that the longest idle one can be closed for a new connection."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Connection, None] = OrderedDict()

    def mark_idle(self, connection: Connection) -> None:
        """Mark a connection as idle, unless it is idle already."""
        self._idle.setdefault(connection)

    def mark_busy(self, connection: Connection) -> None:
        """Mark a connection as busy or closed."""
        self._idle.pop(connection, None)

    def evict_oldest(self) -> bool:
        """Close the connection that has been idle the longest; return False if there is none."""
        if not self._idle:
            return False
        connection, _ = self._idle.popitem(last=False)
        connection.evict()
        return True


class UnreadResponses:
    """The connections with unread responses, the longest waiting one first."""

    def __init__(self) -> None:
        self._sizes: dict[Connection, int] = {}
        self.size = 0

    def add(self, connection: Connection, size: int) -> None:
        """Count the unread bytes of a connection; abort the slowest other ones beyond the limit."""
        self.discard(connection)
        self._sizes[connection] = size
        self.size += size
        while self.size > MAX_UNREAD_BYTES and len(self._sizes) > 1:
            slowest = next(iter(self._sizes))
            self.discard(slowest)
            slowest.abort()

    def discard(self, connection: Connection) -> None:
        """Stop counting a connection whose response was read, or that was closed."""
        self.size -= self._sizes.pop(connection, 0)


class ServerLimits:
    """The limits of one server, and the header lines of its responses."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_lines = b""
        self.idle = IdleConnections()
        self.unread = UnreadResponses()
        self.heads = MemoryBudget(MAX_HEADS)
        self.buffered = MemoryBudget(MAX_BUFFERED_BYTES)
        self.pending = MemoryBudget(MAX_PENDING_BYTES)

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Encode the default headers of responses; kept, as uvicorn makes a new list each
        second."""
        if headers is not self._headers:
            self._header_lines = b"".join([b"%b: %b\r\n" % each for each in headers])
            self._headers = headers
        return self._header_lines


_by_server: WeakKeyDictionary[object, ServerLimits] = WeakKeyDictionary()


def limits_of(server: object) -> ServerLimits:
    """Return the limits of a server; all its connections pass the same `server` object."""
    limits = _by_server.get(server)
    if limits is None:
        limits = _by_server[server] = ServerLimits()
    return limits
