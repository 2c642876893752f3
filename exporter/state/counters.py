"""The bytes that each entity had counted in its last two reports: lists show rates from them."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.kinds import EntityKind


class Counters:
    """Check-ins and counters of bytes of one kind, by slot.

    A slot's values are side by side, so that a row touches few cache lines: those of the previous
    report, then those of the last one.
    """

    def __init__(self, kind: EntityKind) -> None:
        self._fields = [metric.field for metric in kind.counters if "bytes" in metric.name]
        self._values_of = attrgetter(*self._fields)
        self._width = len(self._fields) + 1
        self._unknown = np.full(2 * self._width, np.nan).tobytes()
        self._bytes = bytearray()

    def add(
        self, slots: NDArray[np.intp], checked_in: NDArray[np.float64], metrics: Sequence[Struct]
    ) -> None:
        """Add a report of each of some slots."""
        reports = self._reports()
        reports[slots, 0] = reports[slots, 1]
        reports[slots, 1, 0] = checked_in
        values = [self._values_of(each) for each in metrics]
        try:
            reports[slots, 1, 1:] = values
        except TypeError:  # a report lacks a counter
            reports[slots, 1, 1:] = [[*map(_number, each)] for each in values]

    def rates(self, slot: int) -> dict[str, float]:
        """Return the growth per second between the two reports of those counters that grew."""
        (began, *before), (ended, *after) = self._reports()[slot].tolist()
        if not ended > began:
            return {}
        found = zip(self._fields, before, after, strict=True)
        grown = {field: new - old for field, old, new in found if new >= old}
        return {field: round(growth / (ended - began), 3) for field, growth in grown.items()}

    def add_slot(self) -> None:
        self._bytes += self._unknown

    def clear(self, slot: int) -> None:
        self._reports()[slot] = np.nan

    def _reports(self) -> NDArray[Any]:
        """Return the values by slot, report and value; drop it before `add_slot`."""
        return np.frombuffer(self._bytes).reshape(-1, 2, self._width)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
