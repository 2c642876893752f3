"""The request that is held: kept until it has come whole, to be answered directly (service.direct).

That is for what is plain and short. Whatever is unusual, slow, or beyond the room that there is
goes the ordinary way, where its credential is looked at before its body.
"""

import asyncio
from collections.abc import Callable, Sequence

from service.crowd import Crowd
from service.direct import RawHeaders

MAX_BODY = 64 * 1024
"""Longest body, in bytes."""
MAX_HELD = 16 * 1024 * 1024
"""Bytes that the bodies of all requests which are held may come to."""
WITHIN = 0.25
"""Seconds after which a request that is held and still not whole is no longer waited for."""


class Held:
    """The one request that a connection may hold."""

    __slots__ = ("_crowd", "_loop", "_pieces", "_release", "_size", "_timer", "headers", "is_there")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, crowd: Crowd, release: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._crowd = crowd
        self._release = release
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        """Length of the body, as it was announced."""
        self.headers: RawHeaders = {}
        self.is_there = False

    def take(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Hold a request from its header on; False: it is not for this.

        Whatever is wrong with the target is found at once where a request is not held.
        """
        by_name = dict(headers)
        length = by_name.get(b"content-length", b"")
        if (
            target.startswith(b"/")
            and target.isascii()
            and len(by_name) == len(headers)
            and b"transfer-encoding" not in by_name
            and b"expect" not in by_name
            and length.isdigit()
            and len(length) <= 5
            and (size := int(length)) <= min(MAX_BODY, MAX_HELD - self._crowd.held_bytes)
        ):
            self.headers = by_name
            self.is_there = True
            self._size = size
            self._crowd.held_bytes += size
            return True
        return False

    def add(self, piece: bytes) -> None:
        """Keep what has come of the body."""
        self._pieces.append(piece)

    def body(self) -> bytes:
        """All that has come of the body."""
        pieces = self._pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def wait(self) -> None:
        """Wait for the rest of it, but not for long: then `release` is called."""
        if self._timer is None:
            self._timer = self._loop.call_later(WITHIN, self._release)

    def end(self) -> list[bytes]:
        """Hold it no more; return the pieces of its body."""
        pieces, self._pieces = self._pieces, []
        self.is_there = False
        self._crowd.held_bytes -= self._size
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return pieces
