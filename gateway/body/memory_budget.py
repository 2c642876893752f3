"""Room: how many bytes of bodies may be held at once."""

import asyncio
import contextlib
from collections.abc import Iterator


class BudgetExceededError(Exception):
    """There is no room for so much more."""


class Reservation:
    """What one request holds."""

    def __init__(self, budget: "MemoryBudget") -> None:
        self.budget = budget
        self.size = 0

    def add(self, size: int) -> None:
        """Hold so many bytes more, or less.

        Raises:
            FullError: there is no room for them.
        """
        if self.budget.reserved + size > self.budget.size:
            raise BudgetExceededError
        self.budget.reserved += size
        self.size += size


class MemoryBudget:
    """Room for `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.reserved = 0
        self.lock = asyncio.Lock()
        """For what takes much room for a moment: one after the other, all of it finds some."""

    @contextlib.contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Hold what is added, until the context ends."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.reserved -= reservation.size
