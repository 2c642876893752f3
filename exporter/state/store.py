"""The store: what the entity-state topic says so far, ready to print. Pure.

Kafka's compaction keeps the last record of a key, and a worker that was frozen may write one that
is older than what its successor wrote: so every rule here is about which of two records is newer.
"""

from collections.abc import Iterable, Iterator

from contract.frame import entity_key
from contract.kinds import KINDS
from contract.row import (
    LedgerRow,
    RowError,
    decode_ledger_row,
    decode_position,
    decode_row_position,
    empty_ledger,
    is_ledger_key,
    ledger_key,
)
from contract.total import is_total_key
from exporter.state.entity_table import EntityTable, OnSlot
from exporter.state.outcome import RowVersion
from exporter.state.total_table import TotalTable


class StateStore:
    """Every entity's card, and the ledger of each partition."""

    def __init__(self, partitions: Iterable[int], *, defer_rendering: bool = False) -> None:
        self.totals = TotalTable()
        self.ledgers: dict[int, LedgerRow] = {p: empty_ledger() for p in partitions}
        """Newest ledger row of each partition that is served."""
        self.unreadable: set[tuple[int, bytes]] = set()
        """Partitions and keys whose newest record cannot be read; what was held before stands."""
        self._tables = {
            name.encode(): EntityTable(kind, defer_rendering=defer_rendering)
            for name, kind in KINDS.items()
        }

    def apply(
        self, partition: int, key: bytes | None, value: bytes | None, position: bytes | None = None
    ) -> bool:
        """Take the next record of a partition; tell whether it changed anything.

        `position` is the record's header of that name: a tombstone's place in the order of things.

        Raises:
            RowError: the record cannot be read; what was held before stands.
        """
        if key is None:
            raise RowError("the record has no key")
        try:
            applied = self._apply(partition, key, value, position)
        except RowError:
            if not self._is_older(key, value):
                self.unreadable.add((partition, key))
            raise
        if self.unreadable and (applied or value is None):
            self.unreadable.discard((partition, key))
        return applied

    def find(self, kind: str, id: str) -> RowVersion | None:
        """What is known of an entity's row; None where there is none that can be read."""
        sheet, key = self._tables.get(kind.encode()), entity_key(kind, id)
        if sheet is None or any(key == unreadable for _, unreadable in self.unreadable):
            return None
        return sheet.find(key)

    def _apply(
        self, partition: int, key: bytes, value: bytes | None, position: bytes | None
    ) -> bool:
        kind, _, id = key.partition(b":")
        sheet = self._tables.get(kind)
        if sheet is None or not id:
            if key == ledger_key(partition):
                return self._apply_ledger(partition, value)
            if is_total_key(key):
                return self.totals.apply(partition, key, value)
            if value is None:
                return False
            if is_ledger_key(key):
                raise RowError(f"a ledger that is not partition {partition}'s: {key!r}")
            raise RowError(f"not an entity of a kind known here: {key!r}")
        if value is None:
            removed_at = decode_position(position) if position is not None else None
            return sheet.apply_tombstone(key, removed_at)
        return sheet.apply_row(key, id, value)

    def _is_older(self, key: bytes, value: bytes | None) -> bool:
        """Whether a row that cannot be read is known to be older than what is held."""
        sheet = self._tables.get(key.partition(b":")[0])
        held = sheet.find(key) if sheet is not None else None
        position = held.position if held is not None else self.totals.position(key)
        try:
            return position is not None and decode_row_position(value or b"") < position
        except RowError:
            return False

    def on_slot(self, kind: str, listener: OnSlot) -> None:
        """Let a listener know what each slot of a kind's table shows; before any row is applied."""
        self._tables[kind.encode()].on_slot = listener

    def entities(self, kind: str) -> int:
        """Number of entities of a kind that have series."""
        return len(self._tables[kind.encode()])

    def series(self) -> int:
        """Number of series of all entities."""
        return sum(sheet.series for sheet in self._tables.values())

    def render_deferred(self) -> Iterator[None]:
        """Write, in steps, what a store with `defer_rendering` shows; see
        `EntityTable.render_deferred`."""
        for sheet in self._tables.values():
            yield from sheet.render_deferred()

    def snapshot(self) -> list[Iterator[list[bytes]]]:
        """All entity families as of this moment, in the form that both text formats share.

        For each kind, steps that hold a piece of each family; see `EntityTable.snapshot`.
        """
        return [sheet.snapshot() for sheet in self._tables.values()]

    def _apply_ledger(self, partition: int, value: bytes | None) -> bool:
        if value is None:
            raise RowError("a ledger row without a value")
        row = decode_ledger_row(value)
        if row.progress < self.ledgers[partition].progress:
            return False
        self.ledgers[partition] = row
        return True
