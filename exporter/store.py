"""The store: what the entity-state topic says so far, ready to print. Pure.

Kafka's compaction keeps the last record of a key, and a worker that was frozen may write one that
is older than what its successor wrote: so every rule here is about which of two records is newer.
"""

from collections.abc import Iterable

import msgspec

from contract.kinds import KINDS
from contract.row import (
    EntityRow,
    LedgerRow,
    RowError,
    decode_entity_row,
    decode_ledger_row,
    decode_position,
    empty_ledger,
    is_ledger_key,
    ledger_key,
)
from exporter.lines import LineMaker
from exporter.sheet import Sheet

NOWHERE = -1
"""Slot of an entity that is known but has no series, as it was removed."""


class Held(msgspec.Struct, gc=False):
    """Where an entity's lines are, and how new they are."""

    slot: int
    offset: int
    index: int
    generation: int

    def is_newer_than(self, row: EntityRow) -> bool:
        older_position = (row.offset, row.index) < (self.offset, self.index)
        return older_position or row.generation < self.generation


class StateStore:
    """Every entity's kept lines, and the ledger of each partition."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.ledgers: dict[int, LedgerRow] = {p: empty_ledger() for p in partitions}
        """Newest ledger row of each partition that is served."""
        self._makers = {name.encode(): LineMaker(kind) for name, kind in KINDS.items()}
        self._sheets = {name.encode(): Sheet(kind) for name, kind in KINDS.items()}
        self._held: dict[bytes, Held] = {}

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
        if is_ledger_key(key):
            return self._apply_ledger(partition, key, value)
        kind, _, id = key.partition(b":")
        if kind not in self._sheets or not id:
            raise RowError(f"not an entity of a kind known here: {key!r}")
        if value is None:
            return self._apply_tombstone(kind, key, position)
        return self._apply_row(kind, id, key, value)

    def entities(self, kind: str) -> int:
        """Number of entities of a kind that have series."""
        return len(self._sheets[kind.encode()])

    def exposition(self) -> bytes:
        """All entity families as of this moment, in the form that both text formats share."""
        return b"".join([part for sheet in self._sheets.values() for part in sheet.parts()])

    def _apply_ledger(self, partition: int, key: bytes, value: bytes | None) -> bool:
        if key != ledger_key(partition):
            raise RowError(f"a ledger that is not partition {partition}'s: {key!r}")
        if value is None:
            raise RowError("a ledger row without a value")
        row = decode_ledger_row(value)
        if row.offset < self.ledgers[partition].offset:
            return False
        self.ledgers[partition] = row
        return True

    def _apply_tombstone(self, kind: bytes, key: bytes, position: bytes | None) -> bool:
        removed_at = decode_position(position) if position is not None else None
        held = self._held.get(key)
        if held is None:
            return False
        if removed_at is not None and removed_at < (held.offset, held.index):
            return False
        self._hide(kind, held)
        del self._held[key]
        return True

    def _apply_row(self, kind: bytes, id: bytes, key: bytes, value: bytes) -> bool:
        row = decode_entity_row(value)
        held = self._held.get(key)
        if held is not None and held.is_newer_than(row):
            return False
        lines = None if row.removed else self._lines(kind, id, row)
        if held is None:
            held = self._held[key] = Held(NOWHERE, row.offset, row.index, row.generation)
        else:
            held.offset, held.index, held.generation = row.offset, row.index, row.generation
        if lines is None:
            self._hide(kind, held)
        elif held.slot == NOWHERE:
            held.slot = self._sheets[kind].add(lines)
        else:
            self._sheets[kind].replace(held.slot, lines)
        return True

    def _lines(self, kind: bytes, id: bytes, row: EntityRow) -> list[bytes]:
        try:
            return self._makers[kind].lines(id.decode(), row)
        except UnicodeDecodeError as error:
            raise RowError(f"not an entity's key: {error}") from error

    def _hide(self, kind: bytes, held: Held) -> None:
        if held.slot != NOWHERE:
            self._sheets[kind].remove(held.slot)
            held.slot = NOWHERE
