"""The directory: every entity that is registered or has a row, with what lists are made of.

One slot per entity, with its values in columns. A million entities are sorted, filtered and counted
with a few vector operations (exporter.checkins.listing). Stored are arrays of the standard library,
which grow; NumPy works on copies, so that a list can be made in a thread while rows arrive.
"""

import time
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.frame import partition_of
from contract.kinds import CLIENT, HEADEND, replace_refused
from contract.registry import CLUSTER, RegistryRecord, RegistryState
from exporter.checkins.state import group_labels
from exporter.state.row_decoder import RenderRow
from exporter.state.store import StateStore

REGISTERED, REPORTED, EXPIRED = 1, 2, 4
"""Flags of an entity: it is in the registry; it has a row; it had one, which has expired."""
SEEN = REPORTED | EXPIRED
"""Flags of an entity that has a last check-in."""
NO_CHECK_IN = 0.0
MAX_GROUPS = 65_535
"""Values of one label; entities with further ones are in the group OTHER."""
OTHER = "other"
SLOT_REST = 60.0
"""Seconds before a slot is used again, longer than any list is in use."""


class Snapshot(NamedTuple):
    """The columns at one moment; index i of each is the same entity.

    `keys` has None for an unused slot. `keys` and `names` may be those of the directory itself, in
    which an index is not used again for SLOT_REST seconds after the end of its entity. `groups` has
    one array of codes for each label, and `group_values` the value of each code.
    """

    keys: list[bytes | None]
    names: list[str]
    last: NDArray[np.float64]
    flags: NDArray[np.uint8]
    groups: dict[str, NDArray[np.uint16]]
    group_values: dict[str, list[str]]


class _Codes:
    """A column of combinations of label values, each stored as a code of two bytes."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.column = array("H")
        self._combinations: list[tuple[str, ...]] = [("",) * len(labels)]
        self._codes = {self._combinations[0]: 0}

    def code(self, values: tuple[str, ...]) -> int:
        """Return the code of a combination."""
        code = self._codes.get(values)
        if code is None:
            if len(self._combinations) >= MAX_GROUPS:
                values = (OTHER,) * len(self.labels)
            code = self._codes.setdefault(values, len(self._combinations))
            if code == len(self._combinations):
                self._combinations.append(values)
        return code

    def copy(self, slots: slice) -> Iterator[tuple[str, NDArray[np.uint16], list[str]]]:
        """Yield for each label the codes of its values, and the values."""
        column = np.array(self.column[slots], np.uint16)
        for index, label in enumerate(self.labels):
            values = list(dict.fromkeys(each[index] for each in self._combinations))
            known = {value: code for code, value in enumerate(values)}
            code_of = np.array([known[each[index]] for each in self._combinations], np.uint16)
            yield label, code_of[column], values


class KindDirectory:
    """The entities of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._slots: dict[bytes, int] = {}
        self._free: deque[tuple[float, int]] = deque()
        self._keys: list[bytes | None] = []
        self._names: list[str] = []
        self._last = array("d")
        self._flags = array("B")
        labels = tuple(label for label in group_labels(kind) if label != CLUSTER)
        self._groups = _Codes(labels)
        self._clusters = _Codes((CLUSTER,)) if CLUSTER in group_labels(kind) else None
        self._values_of = attrgetter(*labels)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    def on_row(self, key: bytes, row: RenderRow | None) -> None:
        """Apply an entity's new row; None if it no longer has one."""
        slot = self._slots.get(key)
        if row is None:
            if slot is not None:
                flags = self._flags[slot] & ~REPORTED
                if not flags & EXPIRED:
                    self._last[slot] = NO_CHECK_IN
                self._set_flags(slot, flags if flags & REGISTERED else 0)
            return
        if slot is None:
            slot = self._new_slot(key)
        self._last[slot] = row.last_check_in
        self._flags[slot] = self._flags[slot] & ~EXPIRED | REPORTED
        labels = row.labels
        name: str = labels.name  # type: ignore[attr-defined]
        if name != self._names[slot]:
            self._names[slot] = replace_refused(name)
        self._groups.column[slot] = self._groups.code(self._values_of(labels))

    def on_expired(self, key: bytes, last_check_in: float) -> None:
        """Keep the last check-in of a registered entity whose row expires or has expired.

        The topics of rows and of evidence are read independently, so the row may still be there.
        """
        slot = self._slots.get(key)
        if slot is None or not self._flags[slot] & REGISTERED:
            return
        if not self._flags[slot] & REPORTED:
            self._last[slot] = last_check_in
        self._flags[slot] |= EXPIRED

    def on_record(self, key: bytes, record: RegistryRecord | None) -> None:
        """Apply an entity's registration; None if it was deleted."""
        slot = self._slots.get(key)
        if record is None or record.removed:
            if slot is not None:
                self._set_flags(slot, self._flags[slot] & REPORTED)
            return
        if slot is None:
            slot = self._new_slot(key)
        self._flags[slot] |= REGISTERED
        attributes = record.attributes
        if self._clusters is not None:
            cluster = (attributes.get("cluster_id", ""),)
            self._clusters.column[slot] = self._clusters.code(cluster)
        if not self._flags[slot] & REPORTED:
            self._names[slot] = replace_refused(record.name)
            values = tuple(attributes.get(label, "") for label in self._groups.labels)
            self._groups.column[slot] = self._groups.code(values)

    def snapshot(self) -> Snapshot:
        """Copy the columns of numbers; those of text are shared, because a copy of a million
        references takes longer than everything else."""
        return self._copy(slice(None), self._keys, self._names)

    def full_snapshot(self) -> Snapshot:
        """Copy all columns."""
        return self._copy(slice(None), self._keys.copy(), self._names.copy())

    def find(self, key: bytes) -> Snapshot | None:
        """Return a snapshot of one entity, None if it is unknown."""
        slot = self._slots.get(key)
        return (
            None if slot is None else self._copy(slice(slot, slot + 1), [key], [self._names[slot]])
        )

    def _copy(self, slots: slice, keys: list[bytes | None], names: list[str]) -> Snapshot:
        columns = [
            *self._groups.copy(slots),
            *(self._clusters.copy(slots) if self._clusters else ()),
        ]
        return Snapshot(
            keys,
            names,
            np.array(self._last[slots], np.float64),
            np.array(self._flags[slots], np.uint8),
            {label: codes for label, codes, _ in columns},
            {label: values for label, _, values in columns},
        )

    def _set_flags(self, slot: int, flags: int) -> None:
        self._flags[slot] = flags
        if flags:
            return
        self._last[slot] = NO_CHECK_IN
        key = self._keys[slot]
        assert key is not None
        del self._slots[key]
        self._keys[slot] = None
        self._free.append((time.monotonic() + SLOT_REST, slot))

    def _new_slot(self, key: bytes) -> int:
        if self._free and self._free[0][0] <= time.monotonic():
            slot = self._free.popleft()[1]
            self._keys[slot] = key
        else:
            slot = len(self._keys)
            self._keys.append(key)
            self._names.append("")
            self._last.append(NO_CHECK_IN)
            self._flags.append(0)
            self._groups.column.append(0)
            if self._clusters is not None:
                self._clusters.column.append(0)
        self._slots[key] = slot
        return slot


class Directory:
    """The entities of all kinds in the partitions that an exporter serves."""

    def __init__(self, partitions: Iterable[int], partition_count: int) -> None:
        self._partitions = frozenset(partitions)
        self._partition_count = partition_count
        self.kinds = {kind.name: KindDirectory(kind.name) for kind in (CLIENT, HEADEND)}

    def follow(self, store: StateStore, registered: RegistryState) -> None:
        """Apply all changes of rows and registrations from now on."""
        for kind, directory in self.kinds.items():
            store.table(kind).on_row = directory.on_row
        registered.add_listener(self._on_record)

    def on_expired(self, key: bytes, last_check_in: float) -> None:
        """Keep the last check-in of an entity whose row has expired."""
        directory = self._of(key)
        if directory is not None:
            directory.on_expired(key, last_check_in)

    def _of(self, key: bytes) -> KindDirectory | None:
        return self.kinds.get(key.partition(b":")[0].decode("utf-8", "replace"))

    def _on_record(self, key: bytes, record: RegistryRecord | None) -> None:
        directory = self._of(key)
        if directory is None:
            return
        if partition_of(key, self._partition_count) in self._partitions:
            directory.on_record(key, record)
