"""Columns: of every entity that is shown its group, last check-in and gauges.

They are arrays of the standard library, which grow, with one place per slot of an EntityTable;
NumPy reads them where they are, in a few vector operations for each scrape.
"""

import math
from array import array
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.kinds import EntityKind, replace_refused
from contract.total import Group, other_group
from exporter.state.row_decoder import RenderRow

HIDDEN = 65_535
"""Code of the group of a slot that shows nothing."""
MAX_CODES = 60_000
"""Groups that are told apart; scrapes show far fewer."""
NO_VALUE = math.nan


class Columns:
    """The columns of one kind: the listener of its table."""

    def __init__(self, kind: EntityKind) -> None:
        self.kind = kind
        self.groups: list[Group] = []
        """Group of each code."""
        self.gauges = [metric for metric in kind.metrics if metric.fleet]
        self._codes: dict[Group, int] = {}
        self._column = array("H")
        self._last = array("d")
        self._values = [(metric.field, array("d")) for metric in self.gauges]
        self._labels = [attrgetter(name) for name in kind.group_labels]

    def on_slot(self, slot: int, row: RenderRow | None) -> None:
        """Take what a slot shows now; None: nothing."""
        while len(self._last) <= slot:
            self._column.append(HIDDEN)
            self._last.append(NO_VALUE)
            for _, values in self._values:
                values.append(NO_VALUE)
        if row is None:
            self._column[slot] = HIDDEN
            self._last[slot] = NO_VALUE
            return
        labels = row.labels
        self._column[slot] = self._code(tuple([label(labels) for label in self._labels]))
        self._last[slot] = row.last_check_in
        metrics = row.metrics
        for field, values in self._values:
            value = getattr(metrics, field)
            values[slot] = value if isinstance(value, int | float) else NO_VALUE

    @property
    def codes(self) -> NDArray[np.uint16]:
        """Code of each slot's group, HIDDEN where there is none."""
        return np.asarray(self._column)

    @property
    def last(self) -> NDArray[np.float64]:
        """Last check-in of each slot, in seconds since the epoch."""
        return np.asarray(self._last)

    def values(self, gauge: int) -> NDArray[np.float64]:
        """Value of one of `gauges`, by its place there."""
        return np.asarray(self._values[gauge][1])

    def _code(self, group: Group) -> int:
        code = self._codes.get(group)
        return self._new_code(group) if code is None else code

    def _new_code(self, group: Group) -> int:
        shown = tuple(map(replace_refused, group))
        if shown not in self._codes and len(self.groups) >= MAX_CODES:
            shown = other_group(self.kind)
        code = self._codes.get(shown)
        if code is None:
            code = self._codes[shown] = len(self.groups)
            self.groups.append(shown)
        if shown != group and len(self._codes) < 2 * MAX_CODES:
            self._codes[group] = code
        return code


def by_code(codes: NDArray[Any], groups: int, weights: NDArray[Any] | None = None) -> NDArray[Any]:
    """Count, or add up, by the code of a group; those that are hidden are left out."""
    return np.bincount(codes, weights, minlength=groups)[:groups]
