"""The directory: every entity that is registered or has a row, with what lists are made of.

It is made of the columns of the exporter's tables. A million entities are sorted, filtered and
counted with a few vector operations (exporter.checkins.listing), on copies, so that a list can be
made in a thread while rows arrive.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.frame import partition_of
from contract.kinds import KINDS
from contract.registry import RegistryRecord, RegistryState
from exporter.checkins.texts import Texts
from exporter.state.activity import Interval
from exporter.state.entity_table import EntityTable
from exporter.state.groups import GroupCodes
from exporter.state.store import StateStore


class Snapshot(NamedTuple):
    """The columns at one moment; index i of each is the same entity.

    `keys` has None for an unused slot. `keys` and `names` may be those of the table itself, in
    which an index is not used again for a while after the end of its entity. `groups` has one array
    of codes for each label, and `group_values` the value of each code. `texts` are those of the
    directory.
    """

    keys: list[bytes | None]
    names: list[str]
    last: NDArray[np.float64]
    flags: NDArray[np.uint8]
    groups: dict[str, NDArray[np.uint16]]
    group_values: dict[str, list[str]]
    texts: Texts


class KindDirectory:
    """The entities of one kind."""

    def __init__(self, table: EntityTable) -> None:
        self._table = table
        self._columns = table.columns
        self._texts = Texts(table.columns.kind.name)

    def __len__(self) -> int:
        return sum(key is not None for key in self._columns.keys)

    def __contains__(self, key: bytes) -> bool:
        return self._table.slot(key) is not None

    def snapshot(self) -> Snapshot:
        """Copy the columns of numbers; those of text are shared, because a copy of a million
        references takes longer than everything else."""
        self._note_changes()
        return self._copy(slice(None), self._columns.keys, self._columns.names)

    def full_snapshot(self) -> Snapshot:
        """Copy all columns."""
        self._note_changes()
        return self._copy(slice(None), self._columns.keys.copy(), self._columns.names.copy())

    def release(self) -> None:
        """Free the memory that searches and orders by text take, until the next one."""
        self._texts = Texts(self._columns.kind.name)
        self._columns.changed = None

    def _note_changes(self) -> None:
        self._texts.note(self._columns.changed)
        self._columns.changed = set()

    def find(self, key: bytes) -> Snapshot | None:
        """Return a snapshot of one entity, None if it is unknown."""
        slot = self._table.slot(key)
        if slot is None:
            return None
        self._columns.take_over()
        return self._copy(slice(slot, slot + 1), [key], [self._columns.names[slot]])

    def cadence(self, key: bytes) -> float | None:
        """Return the usual seconds between two check-ins of an entity, None if not known yet."""
        slot = self._table.slot(key)
        if slot is None:
            return None
        self._columns.take_over()
        return self._columns.cadences[slot] or None

    def activity(self, key: bytes) -> list[Interval]:
        """Return an entity's check-ins of the last 24 h; empty if it is unknown."""
        slot = self._table.slot(key)
        if slot is None:
            return []
        self._columns.take_over()
        return self._columns.activity.of(slot)

    def _copy(self, slots: slice, keys: list[bytes | None], names: list[str]) -> Snapshot:
        columns = self._columns
        columns.take_over()
        labels = [*_by_label(columns.groups, np.asarray(columns.group_codes)[slots].copy())]
        if columns.has_clusters:
            codes = np.asarray(columns.cluster_codes)[slots].copy()
            labels += _by_label(columns.clusters, codes)
        return Snapshot(
            keys,
            names,
            np.asarray(columns.last_check_ins)[slots].copy(),
            np.asarray(columns.flags)[slots].copy(),
            {label: codes for label, codes, _ in labels},
            {label: values for label, _, values in labels},
            self._texts,
        )


def _by_label(
    groups: GroupCodes, column: NDArray[np.uint16]
) -> Iterator[tuple[str, NDArray[np.uint16], list[str]]]:
    """Yield for each label the codes of its values, and the values."""
    for index, label in enumerate(groups.labels):
        values = list(dict.fromkeys(group[index] for group in groups.groups))
        known = {value: code for code, value in enumerate(values)}
        code_of = np.array([known[group[index]] for group in groups.groups], np.uint16)
        yield label, code_of[column], values


class Directory:
    """The entities of all kinds in the partitions that an exporter serves."""

    def __init__(self, store: StateStore, registered: RegistryState, partition_count: int) -> None:
        self._partitions = store.ledgers.keys()
        self._partition_count = partition_count
        self._tables = {name: store.table(name) for name in KINDS}
        self.kinds = {name: KindDirectory(table) for name, table in self._tables.items()}
        registered.add_listener(self._on_record)

    def on_expired(self, key: bytes, last_check_in: float) -> None:
        """Keep the last check-in of an entity whose row has expired."""
        table = self._of(key)
        if table is not None:
            table.expire(key, last_check_in)

    def _of(self, key: bytes) -> EntityTable | None:
        return self._tables.get(key.partition(b":")[0].decode("utf-8", "replace"))

    def _on_record(self, key: bytes, record: RegistryRecord | None) -> None:
        table = self._of(key)
        if table is None or partition_of(key, self._partition_count) not in self._partitions:
            return
        if record is None or record.removed:
            table.unregister(key)
        else:
            table.register(key, record.name, record.attributes)
