"""Activity: in which half-hours of the last 24 h each entity has checked in; 8 bytes per entity."""

from array import array
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SECONDS = 1800
LENGTH = 48
"""Intervals that are kept: 24 h."""


class Interval(NamedTuple):
    """One interval; `checked_in` is None if that is unknown: without a check-in in an interval that
    is not over, or that began before the exporter."""

    begin: float
    checked_in: bool | None


class Activity:
    """One bit per slot and interval; the bits of intervals that are over are used again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = now()
        self._current = int(self._since // SECONDS)
        self._bits = array("Q")

    def add_slot(self) -> None:
        self._bits.append(0)

    def clear(self, slot: int) -> None:
        self._bits[slot] = 0

    def mark(self, slots: NDArray[np.intp], checked_in: NDArray[np.float64]) -> None:
        """Mark a check-in of each of some slots, at times in seconds since the epoch."""
        self._advance()
        bits = np.asarray(self._bits)
        is_current = checked_in >= self._current * SECONDS
        bits[slots[is_current]] |= np.uint64(1 << self._current % LENGTH)
        if is_current.all():
            return
        for slot, time in zip(slots[~is_current], checked_in[~is_current], strict=True):
            if (interval := int(time // SECONDS)) > self._current - LENGTH:
                bits[slot] |= np.uint64(1 << interval % LENGTH)

    def of(self, slot: int) -> list[Interval]:
        """Return the intervals of the last 24 h, the oldest first."""
        self._advance()
        bits = self._bits[slot]
        found = []
        for interval in range(self._current - LENGTH + 1, self._current + 1):
            checked_in: bool | None = bool(bits >> interval % LENGTH & 1)
            is_known = interval != self._current and interval * SECONDS >= self._since
            if not checked_in and not is_known:
                checked_in = None
            found.append(Interval(float(interval * SECONDS), checked_in))
        return found

    def _advance(self) -> None:
        """Clear the bits of the intervals that have begun since the last call."""
        current = int(self._now() // SECONDS)
        begun = range(max(self._current + 1, current - LENGTH + 1), current + 1)
        if begun:
            mask = sum(1 << interval % LENGTH for interval in begun)
            bits = np.asarray(self._bits)
            bits &= np.uint64(2**64 - 1 - mask)
            self._current = current
