"""Room: how many bytes of bodies may be held at once."""

import asyncio
import contextlib
from collections.abc import Iterator


class FullError(Exception):
    """There is no room for so much more."""


class Held:
    """What one request holds."""

    def __init__(self, room: "Room") -> None:
        self.room = room
        self.size = 0

    def add(self, size: int) -> None:
        """Hold so many bytes more, or less.

        Raises:
            FullError: there is no room for them.
        """
        if self.room.held + size > self.room.size:
            raise FullError
        self.room.held += size
        self.size += size


class Room:
    """Room for `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.turn = asyncio.Lock()
        """For what takes much room for a moment: one after the other, all of it finds some."""

    @contextlib.contextmanager
    def holding(self) -> Iterator[Held]:
        """Hold what is added, until the context ends."""
        held = Held(self)
        try:
            yield held
        finally:
            self.held -= held.size
