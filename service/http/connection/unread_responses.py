"""Bounds the unread responses of all connections of a server.

Output that the socket's buffer does not accept is kept in this process. A connection keeps at most
one response, because no further request is parsed (`protocol.py`), but there may be thousands of
connections.
"""

from typing import Protocol

MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Maximum bytes of unread responses on all connections of a server. Beyond it, the connections that
have waited longest are aborted; a single response may be larger."""


class SlowReader(Protocol):
    def abort(self) -> None: ...


class UnreadResponses:
    """The connections with unread responses, the longest waiting one first."""

    def __init__(self) -> None:
        self._sizes: dict[SlowReader, int] = {}
        self.size = 0

    def add(self, reader: SlowReader, size: int) -> None:
        """Count the unread bytes of `reader`; abort the slowest other readers if the limit is
        exceeded."""
        self.discard(reader)
        self._sizes[reader] = size
        self.size += size
        while self.size > MAX_UNREAD_BYTES and len(self._sizes) > 1:
            slowest = next(iter(self._sizes))
            self.discard(slowest)
            slowest.abort()

    def discard(self, reader: SlowReader) -> None:
        """Stop counting a connection whose response was read, or that was closed."""
        self.size -= self._sizes.pop(reader, 0)
