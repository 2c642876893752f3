"""Buffers a request until it is complete and can be handled by service.http.connection.fast_path.

Only plain and short requests that did not arrive in one read are buffered. All others, and those
that are slow or exceed the capacity, are passed to ASGI, which checks the credential before the
body.
"""

import asyncio
from collections.abc import Callable

from service.http.connection.request_head import Request
from service.memory_budget import BudgetExceededError, MemoryBudget, Reservation

MAX_BODY = 64 * 1024
"""Maximum body size in bytes."""
BUFFER_TIMEOUT = 0.25
"""Seconds after which an incomplete buffered request is passed to ASGI."""


def is_plain(request: Request) -> bool:
    """Return whether a request is plain and short enough for the fast path."""
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
    """The buffered request of one connection."""

    __slots__ = ("_chunks", "_loop", "_on_timeout", "_reservation", "_timer", "request")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        budget: MemoryBudget,
        on_timeout: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._reservation = Reservation(budget)
        """The bytes of the complete request."""
        self._on_timeout = on_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._chunks: list[bytes] = []
        self.request: Request | None = None

    def try_start(self, request: Request) -> bool:
        """Buffer a plain request from its header on; return False if the capacity is used up."""
        assert request.length is not None
        try:
            self._reservation.resize(request.length + request.size)
        except BudgetExceededError:
            return False
        self.request = request
        return True

    def add(self, chunk: bytes) -> None:
        """Append a received part of the body."""
        self._chunks.append(chunk)

    def body(self) -> bytes:
        """Return the received body."""
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def start_timer(self) -> None:
        """Start the timeout, after which `on_timeout` is called."""
        if self._timer is None:
            self._timer = self._loop.call_later(BUFFER_TIMEOUT, self._on_timeout)

    def release(self) -> None:
        """Forget the request."""
        self._chunks = []
        self.request = None
        self._reservation.resize(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
