"""The store: the state of the entity-state topic, ready to export.

It reads no topic: `row_consumer` applies the records. Its tables read the monotonic clock.
Compaction keeps the last record of a key, and a worker that was frozen can write a record that is
older than its successor's. So every rule here compares which of two records is newer.
"""

from collections.abc import Iterable, Iterator

from contract.entity import entity_key
from contract.kinds import KINDS
from contract.ledger import LedgerRow, decode_ledger_row, empty_ledger, is_ledger_key, ledger_key
from contract.row import RowError, decode_position, decode_row_position
from contract.total import is_total_key
from exporter.state.entity_table import EntityTable
from exporter.state.outcome import RowVersion
from exporter.state.total_table import TotalTable


class StateStore:
    """The rendered samples of every entity, and the ledger of each partition."""

    def __init__(self, partitions: Iterable[int], *, defer_rendering: bool = False) -> None:
        self.totals = TotalTable()
        self.ledgers: dict[int, LedgerRow] = {p: empty_ledger() for p in partitions}
        """Newest ledger row of each partition that is served."""
        self.unreadable: set[tuple[int, bytes]] = set()
        """Partitions and keys whose newest record cannot be decoded; the state has the previous
        one."""
        self._tables = {
            name.encode(): EntityTable(kind, defer_rendering=defer_rendering)
            for name, kind in KINDS.items()
        }

    def apply(
        self, partition: int, key: bytes | None, value: bytes | None, position: bytes | None = None
    ) -> bool:
        """Apply the next record of a partition; return whether it changed the state.

        `position` is the record's position header, which tombstones have.

        Raises:
            RowError: the record cannot be decoded; the previous state remains.
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
        """Return the version of an entity's row, None if there is no row or it cannot
        be decoded."""
        table, key = self._tables.get(kind.encode()), entity_key(kind, id)
        if table is None or any(key == unreadable for _, unreadable in self.unreadable):
            return None
        return table.find(key)

    def _apply(
        self, partition: int, key: bytes, value: bytes | None, position: bytes | None
    ) -> bool:
        kind, _, id = key.partition(b":")
        table = self._tables.get(kind)
        if table is None or not id:
            if key == ledger_key(partition):
                return self._apply_ledger(partition, value)
            if is_total_key(key):
                return self.totals.apply(partition, key, value)
            if value is None:
                return False
            if is_ledger_key(key):
                raise RowError(f"ledger of another partition than {partition}: {key!r}")
            raise RowError(f"unknown entity kind: {key!r}")
        if value is None:
            removed_at = decode_position(position) if position is not None else None
            return table.apply_tombstone(key, removed_at)
        return table.apply_row(key, id, value)

    def _is_older(self, key: bytes, value: bytes | None) -> bool:
        """Return whether a row that cannot be decoded is older than the current one."""
        table = self._tables.get(key.partition(b":")[0])
        current = table.find(key) if table is not None else None
        position = current.position if current is not None else self.totals.position(key)
        try:
            return position is not None and decode_row_position(value or b"") < position
        except RowError:
            return False

    def entities(self, kind: str) -> int:
        """Return the number of entities of a kind that have series."""
        return len(self._tables[kind.encode()])

    def series(self) -> int:
        """Return the number of series of all entities."""
        return sum(table.series for table in self._tables.values())

    def table(self, kind: str) -> EntityTable:
        """Return the table of a kind."""
        return self._tables[kind.encode()]

    def render_deferred(self) -> Iterator[None]:
        """Render deferred rows in steps; see `EntityTable.render_deferred`."""
        for table in self._tables.values():
            yield from table.render_deferred()

    def snapshot(self) -> list[Iterator[list[bytes]]]:
        """Return all entity families as of now, in the format that both text formats share.

        For each kind, steps with a piece of every family; see `EntityTable.snapshot`.
        """
        return [table.snapshot() for table in self._tables.values()]

    def _apply_ledger(self, partition: int, value: bytes | None) -> bool:
        if value is None:
            raise RowError("a ledger row without a value")
        row = decode_ledger_row(value)
        if row.progress < self.ledgers[partition].progress:
            return False
        self.ledgers[partition] = row
        return True
