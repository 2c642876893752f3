"""The request that is held: kept until it has come whole, to be answered directly
(service.http.fast_path).

Only requests that are plain and short, and that did not come in one piece, are held. All others,
and those that are slow or beyond the capacity, take the ordinary way, where the credential is
checked before the body.
"""

import asyncio
from collections.abc import Callable

from service.http.idle_connections import IdleConnections
from service.http.request_parser import Request

MAX_BODY = 64 * 1024
"""Longest body, in bytes."""
MAX_BUFFERED_BYTES = 16 * 1024 * 1024
"""Bytes that all requests which are held may come to, heads and bodies."""
BUFFER_TIMEOUT = 0.25
"""Seconds after which a request that is held and still not whole is no longer waited for."""


def is_plain(request: Request) -> bool:
    """Tell whether a request is plain and short enough to be answered directly."""
    size = request.length
    return (
        size is not None
        and size <= MAX_BODY
        and request.is_single
        and b"content-length" in request.fields
        and b"expect" not in request.fields
        and request.version == "1.1"
    )


class RequestBuffer:
    """The one request that a connection may hold."""

    __slots__ = (
        "_chunks",
        "_idle_connections",
        "_loop",
        "_on_timeout",
        "_size",
        "_timer",
        "request",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        idle_connections: IdleConnections,
        on_timeout: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._idle_connections = idle_connections
        self._on_timeout = on_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        """Bytes that the request counts for when it is complete."""
        self.request: Request | None = None

    def try_start(self, request: Request) -> bool:
        """Hold a plain request from its header on; False: there is no room for it."""
        assert request.length is not None
        size = request.length + request.size
        if size > MAX_BUFFERED_BYTES - self._idle_connections.buffered_bytes:
            return False
        self.request = request
        self._size = size
        self._idle_connections.buffered_bytes += size
        return True

    def add(self, chunk: bytes) -> None:
        """Keep what has come of the body."""
        self._chunks.append(chunk)

    @property
    def received(self) -> int:
        """Bytes that have come of the body."""
        return sum(map(len, self._chunks))

    def body(self) -> bytes:
        """All that has come of the body."""
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def start_timer(self) -> None:
        """Wait for the rest of it, but not for long: then `on_timeout` is called."""
        if self._timer is None:
            self._timer = self._loop.call_later(BUFFER_TIMEOUT, self._on_timeout)

    def release(self) -> list[bytes]:
        """Hold it no more; return the pieces of its body."""
        chunks, self._chunks = self._chunks, []
        self.request = None
        self._idle_connections.buffered_bytes -= self._size
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return chunks
