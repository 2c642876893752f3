"""Budgets for the memory that requests use before they are authenticated or complete."""

import asyncio
import contextlib
from collections.abc import Iterator


class BudgetExceededError(Exception):
    """The reservation would exceed the budget: a 503 for the request."""

    def __init__(self) -> None:
        super().__init__("Too much data is being received: try again")


class Reservation:
    """The bytes that one request or connection has reserved."""

    __slots__ = ("budget", "size")

    def __init__(self, budget: "MemoryBudget") -> None:
        self.budget = budget
        self.size = 0

    def add(self, size: int) -> None:
        """Reserve `size` more bytes; a negative size releases them.

        Raises:
            BudgetExceededError: the budget would be exceeded; nothing has changed.
        """
        if size > 0 and self.budget.reserved + size > self.budget.size:
            raise BudgetExceededError
        self.budget.reserved += size
        self.size += size

    def resize(self, size: int) -> None:
        """Reserve `size` bytes in all; raises as `add`."""
        if size != self.size:
            self.add(size - self.size)


class MemoryBudget:
    """A budget of `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.reserved = 0
        self.lock = asyncio.Lock()
        """Serialises operations that need much memory for a short time, so that all of them fit."""

    @contextlib.contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Return a context with a reservation that is released at its end."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.resize(0)
