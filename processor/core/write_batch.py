"""A write batch: the changes of some records to one partition, separate from its state.

It becomes part of the state after Kafka has acknowledged it, so the state always equals the
changelog. A row that changes several times in a frame is decoded and encoded once.

It is written as one or more record batches. Kafka appends a record batch whole or not at all, so
one with rows of submissions ends with the ledger that counts exactly these and all earlier
submissions.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.anomaly import Anomaly, Reason
from contract.evidence import EvidenceReason
from contract.kinds import KINDS, is_id
from contract.ledger import LedgerRow, encode_ledger_row
from contract.position import Position, Receipt
from contract.row import POSITION_HEADER, EntityRow, decode_entity_row, encode_position, encode_row
from processor.core.partition_state import PartitionState
from processor.core.source_record import DeadLetter, Record, Unapplied
from processor.core.totals import Additions, Totals, no_additions

MAX_ROW_BYTES = 512 * 1024
"""Maximum size of an encoded row. Kafka's limit for a batch is about 1 MiB, including key and
ledger; a usual row has 500 bytes."""


MAX_UNAPPLIED = 1_000
"""Maximum number of pairs of entity and reason for which a batch records unapplied submissions."""
RECORD_BATCH_BYTES = 1_000_000
"""Maximum size of the rows of a record batch. Kafka's limit is 1 MiB; the rest is for the
ledger."""
RECORD_OVERHEAD = 40
"""Maximum overhead of a record in a record batch, in addition to its key and value."""


@dataclass(frozen=True)
class Tombstone:
    """Removes a row as of a position."""

    position: Position

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [(POSITION_HEADER, encode_position(self.position))]


Changes = dict[bytes, bytes | Tombstone]
"""New values of rows by key: an encoded row, or a tombstone."""
ChangelogRecord = tuple[bytes, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""
NO_HEADERS: list[tuple[str, bytes]] = []
RecordBatch = list[ChangelogRecord]
"""Records that are appended whole or not at all."""


@dataclass(frozen=True)
class _ClosedRecordBatch:
    """The changes of a complete record batch, and the encoded ledger at its end."""

    changes: Changes
    ledger: bytes


class Encoded(NamedTuple):
    """Encoded rows of staged changes, and what they add to totals."""

    rows: dict[bytes, bytes]
    size: int
    """Maximum size of the records of `rows`."""
    growth: Additions
    too_large: dict[bytes, int]
    """Sizes of the rows that are too large to write."""


@dataclass
class WriteBatch:
    """The changes of one batch to one partition."""

    state: PartitionState
    changes: Changes = field(default_factory=dict)
    """Changes of the open record batch."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    unapplied: dict[tuple[str, str, EvidenceReason], Unapplied] = field(default_factory=dict)
    """By kind, id and reason, the newest submission that was not applied."""
    anomaly_counts: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """Number of anomalies by kind and reason."""
    submissions: int = 0
    """Number of submissions read."""
    ledger: LedgerRow = field(init=False)
    growth: Additions = field(default_factory=no_additions)
    """What the staged rows have grown by, to be added to the total of their group."""
    _staged: dict[bytes, EntityRow] = field(default_factory=dict)
    _totals: Totals = field(init=False)
    _size: int = 0
    """Upper bound of the size of `changes` as records, in bytes."""
    _closed: list[_ClosedRecordBatch] = field(default_factory=list)
    _closed_changes: Changes = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.state.ledger)
        self._totals = Totals(self.state)

    def note_unapplied(
        self, record: Record, index: int, kind: str, id: str, reason: EvidenceReason, detail: str
    ) -> None:
        """Record why a submission was not applied, for at most MAX_UNAPPLIED pairs."""
        key = (kind, id, reason)
        before = self.unapplied.get(key)
        if before is None and (
            len(self.unapplied) >= MAX_UNAPPLIED or kind not in KINDS or not is_id(id)
        ):
            return
        receipt = Receipt(record.partition, record.source_offset, index, record.appended_ms)
        times = 1 if before is None else before.times + 1
        self.unapplied[key] = Unapplied(receipt, detail, times)

    def row(self, key: bytes) -> EntityRow | None:
        """Return the row including this batch's changes, None if there is none.

        Raises:
            RowVersionError: the row's version is not supported.
            RowError: the row cannot be decoded.
        """
        row = self._staged.get(key)
        if row is not None:
            return row
        encoded = self.encoded_row(key)
        return None if encoded is None else decode_entity_row(encoded)

    def encoded_row(self, key: bytes) -> bytes | None:
        """Return the encoded row as it was before the staged changes."""
        encoded = self.changes.get(key) or self._closed_changes.get(key) or self.state.rows.get(key)
        return encoded if isinstance(encoded, bytes) else None

    def stage(self, key: bytes, row: EntityRow) -> None:
        """Change a row; call `encode_staged` afterwards."""
        self._staged[key] = row

    def encode_staged(self) -> Encoded:
        """Encode the staged rows; called after each frame, while they are in the CPU cache.

        Rows that are too large to write stay unchanged.
        """
        rows, too_large = {}, {}
        for key, row in self._staged.items():
            encoded = encode_row(row)
            if len(encoded) > MAX_ROW_BYTES:
                too_large[key] = len(encoded)
            else:
                rows[key] = encoded
        self._staged.clear()
        growth, self.growth = self.growth, no_additions()
        if too_large:
            for group, additions in [*growth.items()]:
                growth[group] = [each for each in additions if each[0] not in too_large]
                if not growth[group]:
                    del growth[group]
        return Encoded(rows, size_of(rows), growth, too_large)

    def exceeds_record_batch(self, encoded: Encoded) -> bool:
        """Return whether rows, with their totals, are too large for one record batch."""
        return encoded.size + self._totals.max_size_of(encoded.growth) > RECORD_BATCH_BYTES

    def add(self, encoded: Encoded) -> None:
        """Add what was encoded, before the ledger counts its submissions.

        If the open record batch would become too large, it is closed with the current ledger.
        """
        size = encoded.size + self._totals.size_of(encoded.growth)
        if self._size + size > RECORD_BATCH_BYTES and self.changes:
            self._add_totals()
            self._closed.append(_ClosedRecordBatch(self.changes, encode_ledger_row(self.ledger)))
            self._closed_changes |= self.changes
            self.changes, self._size = {}, 0
            size = encoded.size + self._totals.size_of(encoded.growth)
        self.changes.update(encoded.rows)
        self._totals.add(encoded.growth)
        self._size += size

    def _add_totals(self) -> None:
        """Add the totals that the changes of the open record batch have changed."""
        self.changes.update(self._totals.encode_changed())

    def record_batches(self) -> Iterator[RecordBatch]:
        """Yield the record batches to write; each must be acknowledged before the next is sent.

        Rows of a repair or an expiry run, which no submission changes, may exceed a record batch.
        They precede the ledger, because rows may always be newer than it.
        """
        self._add_totals()
        key = self.state.ledger_key
        for closed in self._closed:
            yield [*_records(closed.changes), (key, closed.ledger, NO_HEADERS)]
        *before, last = [*split(_records(self.changes))] or [[]]
        yield from before
        yield [*last, (key, encode_ledger_row(self.ledger), NO_HEADERS)]

    def commit(self) -> None:
        """Apply the changes to the state, after Kafka has acknowledged all of them."""
        self._add_totals()
        self._totals.commit()
        changes = self._closed_changes | self.changes if self._closed else self.changes
        rows = {key: each for key, each in changes.items() if isinstance(each, bytes)}
        self.state.rows.update(rows)
        if len(rows) < len(changes):
            for key in changes.keys() - rows.keys():
                self.state.rows.pop(key, None)
                self.state.histories.pop(key, None)
        self.state.ledger = self.ledger


def size_of(rows: dict[bytes, bytes]) -> int:
    """Return the maximum size of a row's record in a record batch."""
    return sum(map(len, rows.values())) + sum(map(len, rows)) + RECORD_OVERHEAD * len(rows)


def split(records: Iterable[ChangelogRecord]) -> Iterator[RecordBatch]:
    """Split records into record batches."""
    batch: RecordBatch = []
    size = 0
    for record in records:
        key, value, headers = record
        needed = len(key) + len(value or b"") + RECORD_OVERHEAD * (1 + len(headers))
        if batch and size + needed > RECORD_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += needed
    if batch:
        yield batch


def _records(changes: Changes) -> Iterator[ChangelogRecord]:
    for key, change in changes.items():
        if isinstance(change, bytes):
            yield key, change, NO_HEADERS
        else:
            yield key, None, change.headers
