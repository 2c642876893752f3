"""Columns: what lists, counts and fleet metrics need of every entity of a kind.

They are arrays of the standard library, which grow, with one place per slot of an EntityTable.
NumPy evaluates a million entities in a few vector operations. A row costs an append when it is
applied; the columns take rows over in batches, at the latest when somebody reads them.
"""

import math
import time
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.kinds import CLIENT, EntityKind, replace_refused
from contract.registry import CLUSTER
from contract.total import Group
from exporter.state.activity import Activity
from exporter.state.counters import Counters
from exporter.state.groups import GroupCodes
from exporter.state.row_decoder import RenderRow

REGISTERED, REPORTED, ANOMALOUS, EXPIRED = 1, 2, 4, 8
"""Flags of an entity: it is in the registry; it has a row with series; anomalies of late; its row
has expired."""
SEEN = REPORTED | EXPIRED
"""Flags of an entity that has a last check-in."""
NO_CHECK_IN = 0.0
NO_VALUE = math.nan
HIDDEN = 65_535
"""Code of a slot without a row."""
MAX_PENDING = 256
"""Maximum number of rows to take over later: few enough to stay in the CPU cache, enough for vector
operations to cost less than a loop."""
MAX_CHANGED = 50_000
"""Maximum number of slots whose changes are remembered."""


class Columns:
    """The columns of one kind; call `take_over` before reading them.

    `keys` has None for an unused slot.
    """

    def __init__(self, kind: EntityKind, now: Callable[[], float] = time.time) -> None:
        self.kind = kind
        self.keys: list[bytes | None] = []
        self.names: list[str] = []
        self.changed: set[int] | None = None
        """Slots whose key or name changed since a reader replaced this by an empty set; None: there
        is no such reader, or they are too many."""
        self.flags = array("B")
        self.activity = Activity(now)
        self.groups = GroupCodes(kind.group_labels)
        self.group_codes = array("H")
        self.clusters = GroupCodes((CLUSTER,))
        self.cluster_codes = array("H")
        """Codes of clusters, for a kind that belongs to one."""
        self.has_clusters = kind is not CLIENT
        self.gauges = [metric for metric in kind.metrics if metric.fleet]
        self.last_check_ins = array("d")
        self.cadences = array("f")
        """Usual seconds between two check-ins since the exporter's start, 0 if not known."""
        self._values = [(attrgetter(metric.field), array("d")) for metric in self.gauges]
        self._group_of = _values_of(kind.group_labels)
        self._counters = Counters(kind) if kind.counters else None
        self.pending: list[tuple[int, RenderRow]] = []
        """Slots and the rows that they show from now on, to be taken over."""

    def take_over(self) -> None:
        """Store the values of all pending rows."""
        rows = dict(self.pending)
        if len(rows) < len(self.pending):  # a slot has several, to be stored one after the other
            rows = {}
            for slot, row in self.pending:
                if slot in rows:
                    self._store(rows)
                    rows = {}
                rows[slot] = row
        if rows:
            self._store(rows)
        self.pending.clear()

    def _store(self, rows: dict[int, RenderRow]) -> None:
        """Store the values of rows by slot."""
        slots = np.fromiter(rows, np.intp, len(rows))
        checked_in = np.array([row.last_check_in for row in rows.values()])
        last, flags = np.asarray(self.last_check_ins), np.asarray(self.flags)
        before, flags_before = last[slots], flags[slots]
        has_gap = (flags_before & SEEN == REPORTED) & (checked_in > before)
        if has_gap.any():
            cadences, gaps = np.asarray(self.cadences), checked_in - before
            usual = cadences[slots]
            learnt = np.where(usual != 0, usual + (gaps - usual) / 8, gaps)
            cadences[slots] = np.where(has_gap, learnt, usual)
        last[slots] = checked_in
        flags[slots] = flags_before & ~np.uint8(EXPIRED) | REPORTED
        self.activity.mark(slots, checked_in)
        metrics = [row.metrics for row in rows.values()]
        for value_of, values in self._values:
            np.asarray(values)[slots] = [_number(value_of(each)) for each in metrics]
        if self._counters is not None:
            self._counters.add(slots, checked_in, metrics)

    def rates(self, slot: int) -> dict[str, float]:
        """Return how much each counter grew per second since the previous report, by field.

        A counter that fell, or that either report lacks, has no rate.
        """
        self.take_over()
        return {} if self._counters is None else self._counters.rates(slot)

    def show_labels(self, slot: int, labels: Struct) -> None:
        """Store the name and the group of a row, from its decoded labels."""
        self.group_codes[slot] = self.groups.code(self._group_of(labels))
        self._show_name(slot, labels.name)  # type: ignore[attr-defined]

    def _show_name(self, slot: int, name: str) -> None:
        shown = replace_refused(name)
        if shown != self.names[slot]:
            self.names[slot] = shown
            self._note_changed(slot)

    def _note_changed(self, slot: int) -> None:
        if self.changed is not None:
            self.changed.add(slot)
            if len(self.changed) > MAX_CHANGED:
                self.changed = None

    def clear_row(self, slot: int) -> None:
        """Note that a slot shows no row."""
        self.take_over()
        self.flags[slot] &= ~REPORTED
        if not self.flags[slot] & EXPIRED:
            self.last_check_ins[slot] = NO_CHECK_IN
        for _, values in self._values:
            values[slot] = NO_VALUE
        if self._counters is not None:
            self._counters.clear(slot)

    def expire(self, slot: int, last_check_in: float) -> None:
        """Keep the last check-in of a registered entity whose row expires or has expired.

        The topics of rows and of evidence are read independently, so the row may still be there.
        """
        self.take_over()
        if not self.flags[slot] & REGISTERED:
            return
        if not self.flags[slot] & REPORTED:
            self.last_check_ins[slot] = last_check_in
        self.flags[slot] |= EXPIRED

    def register(self, slot: int, name: str, labels: dict[str, str]) -> None:
        """Note a registration. Its name and labels show until there is a row; its cluster always.

        A label that the registration lacks has its default.
        """
        self.take_over()
        self.flags[slot] |= REGISTERED
        if self.has_clusters:
            self.cluster_codes[slot] = self.clusters.code((labels.get("cluster_id", ""),))
        if not self.flags[slot] & REPORTED:
            self._show_name(slot, name)
            defaults = {label.name: label.default for label in self.kind.labels}
            values = [labels.get(each, defaults[each]) for each in self.groups.labels]
            self.group_codes[slot] = self.groups.code(tuple(values))

    def unregister(self, slot: int) -> None:
        self.take_over()
        self.flags[slot] &= ~(REGISTERED | EXPIRED)
        if not self.flags[slot] & REPORTED:
            self.last_check_ins[slot] = NO_CHECK_IN

    def add_slot(self, key: bytes) -> None:
        """Add columns' places for the next slot."""
        self.keys.append(key)
        self.names.append("")
        self._note_changed(len(self.names) - 1)
        self.flags.append(0)
        self.activity.add_slot()
        self.group_codes.append(0)
        self.last_check_ins.append(NO_CHECK_IN)
        self.cadences.append(0)
        if self.has_clusters:
            self.cluster_codes.append(0)
        for _, values in self._values:
            values.append(NO_VALUE)
        if self._counters is not None:
            self._counters.add_slot()

    def use_slot(self, slot: int, key: bytes) -> None:
        """Note that a free slot belongs to another entity."""
        self.keys[slot] = key
        self._note_changed(slot)

    def free_slot(self, slot: int) -> None:
        """Note that a slot belongs to no entity."""
        self.clear_row(slot)
        self.keys[slot] = None
        self.flags[slot] = 0
        self.last_check_ins[slot] = NO_CHECK_IN
        self.cadences[slot] = 0
        self.activity.clear(slot)

    @property
    def codes(self) -> NDArray[np.uint16]:
        """Code of the group of each slot that shows a row, HIDDEN of all others."""
        shown = np.asarray(self.flags) & REPORTED != 0
        return np.where(shown, np.asarray(self.group_codes), np.uint16(HIDDEN))

    @property
    def last(self) -> NDArray[np.float64]:
        """Last check-in of each slot that shows a row in seconds since the epoch, else NaN."""
        shown = np.asarray(self.flags) & REPORTED != 0
        return np.where(shown, np.asarray(self.last_check_ins), np.nan)

    def values(self, gauge: int) -> NDArray[np.float64]:
        """Value of one of `gauges`, by its place there."""
        return np.asarray(self._values[gauge][1])


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else NO_VALUE


def _values_of(labels: Sequence[str]) -> Callable[[object], Group]:
    if not labels:
        return lambda _: ()
    values_of: Callable[[object], Any] = attrgetter(*labels)
    return values_of if len(labels) > 1 else lambda each: (values_of(each),)


def by_code(codes: NDArray[Any], groups: int, weights: NDArray[Any] | None = None) -> NDArray[Any]:
    """Count, or add up, by the code of a group; those that are hidden are left out."""
    return np.bincount(codes, weights, minlength=groups)[:groups]
