"""Responses that clients do not read, bounded for a whole server.

What the buffer of a socket does not take waits in this process. A connection waits with at most
one response, as nothing more is parsed on it (service.http.protocol). Thousands of connections are
thousands of responses.
"""

from typing import Protocol

MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Bytes of responses that may wait on all connections of a server. For more, the connections that
have waited longest are cut off; a single response may be larger."""


class SlowReader(Protocol):
    def abort(self) -> None: ...


class UnreadResponses:
    """The connections whose responses wait, the longest first."""

    def __init__(self) -> None:
        self._sizes: dict[SlowReader, int] = {}
        self.size = 0

    def add(self, reader: SlowReader, size: int) -> None:
        """Count the bytes that `reader` has not read; for too many, cut off the slowest others."""
        self.discard(reader)
        self._sizes[reader] = size
        self.size += size
        while self.size > MAX_UNREAD_BYTES and len(self._sizes) > 1:
            slowest = next(iter(self._sizes))
            self.discard(slowest)
            slowest.abort()

    def discard(self, reader: SlowReader) -> None:
        """Count a connection no longer: all was read, or it has ended."""
        self.size -= self._sizes.pop(reader, 0)
