"""A batch: what some records do to one partition, apart from its state.

It becomes part of the state when Kafka has acknowledged it: whatever happens to a half-done batch,
the state is what Kafka has. A row that changes often in a frame is decoded and encoded once.

It is written in pieces. Kafka appends a piece, one record batch, whole or not at all, so a piece
that has rows of submissions ends in the ledger that counts exactly these and all before.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from contract.anomaly import Anomaly, Reason
from contract.history import SourceMark
from contract.position import Position
from contract.row import (
    POSITION_HEADER,
    EntityRow,
    LedgerRow,
    decode_entity_row,
    encode_ledger_row,
    encode_position,
    encode_row,
)
from contract.total import TotalRow, encode_total
from processor.core.partition_state import PartitionState
from processor.core.totals import Addition, Totals

MAX_ROW_BYTES = 512 * 1024
"""Most that an encoded row may have. Kafka takes about 1 MiB in one piece, key and ledger included;
a usual row has 500 bytes."""


PIECE_BYTES = 1_000_000
"""Most bytes of a piece's rows. A record batch may have 1 MiB; the rest is for the ledger."""
RECORD_OVERHEAD = 40
"""Most bytes that a record adds to its key and value in a record batch."""


@dataclass(frozen=True)
class Record:
    """A record of the submissions topic; `appended_ms` is in milliseconds since the epoch.

    `offset` is logical (contract.history); `shift` is what was added to Kafka's. `epoch` is the
    leader epoch of its batch and `topic` the topic's id, None where they are not known.
    """

    partition: int
    offset: int
    appended_ms: int
    value: bytes | None
    shift: int = 0
    epoch: int | None = None
    topic: str | None = None

    @property
    def source_offset(self) -> int:
        """Its offset in Kafka."""
        return self.offset - self.shift

    @property
    def mark(self) -> SourceMark | None:
        if self.epoch is None or self.topic is None:
            return None
        return SourceMark(self.source_offset, self.epoch, self.appended_ms, self.topic)


@dataclass(frozen=True)
class DeadLetter:
    """What could not be processed: a whole record, a submission of a frame, or a row.

    `record` is where it is from, or what found it; contract.dead_letter has the indexes of what is
    no submission.
    """

    record: Record
    index: int
    value: bytes
    reason: str


@dataclass(frozen=True)
class Tombstone:
    """Removes a row; it says which position of it was removed."""

    position: Position

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [(POSITION_HEADER, encode_position(self.position))]


Changes = dict[bytes, bytes | Tombstone]
"""What becomes of rows, by key: another row, encoded, or none."""
ChangelogRecord = tuple[bytes, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""
NO_HEADERS: list[tuple[str, bytes]] = []
Piece = list[ChangelogRecord]
"""Records that are appended whole or not at all."""


@dataclass(frozen=True)
class _Sealed:
    """A part of a batch that is a piece of its own, with the ledger that ends it, encoded."""

    changes: Changes
    ledger: bytes


@dataclass
class WriteBatch:
    """What one batch does to one partition."""

    state: PartitionState
    changes: Changes = field(default_factory=dict)
    """What belongs to the piece that is not sealed yet."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    anomaly_counts: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """Number of anomalies by kind and reason."""
    submissions: int = 0
    """Submissions that were read."""
    ledger: LedgerRow = field(init=False)
    _staged: dict[bytes, EntityRow] = field(default_factory=dict)
    _totals: Totals = field(init=False)
    _additions: list[Addition] = field(default_factory=list)
    _staged_totals: dict[bytes, TotalRow] = field(default_factory=dict)
    _size: int = 0
    """At most so many bytes are the rows of `changes`, as records."""
    _sealed: list[_Sealed] = field(default_factory=list)
    _sealed_changes: Changes = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.state.ledger)
        self._totals = Totals(self.state)

    def row(self, key: bytes) -> EntityRow | None:
        """The row as this batch leaves it.

        Raises:
            RowVersionError: there is one of a version that this code does not know.
            RowError: there is one that nobody can read.
        """
        row = self._staged.get(key)
        if row is not None:
            return row
        held = self.encoded_row(key)
        return None if held is None else decode_entity_row(held)

    def encoded_row(self, key: bytes) -> bytes | None:
        """The row, encoded, as it was before what is staged."""
        held = self.changes.get(key) or self._sealed_changes.get(key) or self.state.rows.get(key)
        return held if isinstance(held, bytes) else None

    def stage(self, key: bytes, row: EntityRow) -> None:
        """Change a row; `encode_staged` must follow."""
        self._staged[key] = row

    def stage_growth(self, addition: Addition) -> None:
        """Add to a total what a staged row has grown by."""
        self._additions.append(addition)

    def encode_staged(self) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
        """Encode what was staged, at the end of each frame, while it is in the CPU's cache.

        Returns the rows, with the totals of what they have grown by, and the sizes of those that
        are too large to write and stay as they were.
        """
        rows, too_large = {}, {}
        for key, row in self._staged.items():
            encoded = encode_row(row)
            if len(encoded) > MAX_ROW_BYTES:
                too_large[key] = len(encoded)
            else:
                rows[key] = encoded
        self._staged.clear()
        if too_large:
            self._additions = [each for each in self._additions if each.key not in too_large]
        self._staged_totals = self._totals.add(self._additions)
        self._additions.clear()
        rows.update((key, encode_total(total)) for key, total in self._staged_totals.items())
        return rows, too_large

    def add(self, rows: dict[bytes, bytes], size: int) -> None:
        """Add what was encoded, of `size` bytes, before the ledger counts its submissions.

        If the open piece would be too large with them, it is sealed with the ledger as it is.
        """
        if self._size + size > PIECE_BYTES and self.changes:
            self._sealed.append(_Sealed(self.changes, encode_ledger_row(self.ledger)))
            self._sealed_changes |= self.changes
            self.changes, self._size = {}, 0
        self.changes.update(rows)
        self._totals.keep(self._staged_totals)
        self._size += size

    def pieces(self) -> Iterator[Piece]:
        """Yield what is to be written to the changelog; each piece is awaited before the next.

        Rows that no submission changes, those of a repair or a sweep, may be more than a piece
        takes. They come before the ledger, as rows may always be newer than it.
        """
        key = self.state.ledger_key
        for sealed in self._sealed:
            yield [*_records(sealed.changes), (key, sealed.ledger, NO_HEADERS)]
        *before, last = [*split(_records(self.changes))] or [[]]
        yield from before
        yield [*last, (key, encode_ledger_row(self.ledger), NO_HEADERS)]

    def commit(self) -> None:
        """Make it part of the state: Kafka has acknowledged all of it."""
        self._totals.commit()
        changes = self._sealed_changes | self.changes if self._sealed else self.changes
        rows = {key: each for key, each in changes.items() if isinstance(each, bytes)}
        self.state.rows.update(rows)
        if len(rows) < len(changes):
            for key in changes.keys() - rows.keys():
                self.state.rows.pop(key, None)
                self.state.histories.pop(key, None)
        self.state.ledger = self.ledger


def size_of(rows: dict[bytes, bytes]) -> int:
    """Most bytes that rows take in a record batch."""
    return sum(map(len, rows.values())) + sum(map(len, rows)) + RECORD_OVERHEAD * len(rows)


def split(records: Iterable[ChangelogRecord]) -> Iterator[Piece]:
    """Split records to pieces that one record batch takes."""
    piece: Piece = []
    size = 0
    for record in records:
        key, value, headers = record
        needed = len(key) + len(value or b"") + RECORD_OVERHEAD * (1 + len(headers))
        if piece and size + needed > PIECE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += needed
    if piece:
        yield piece


def _records(changes: Changes) -> Iterator[ChangelogRecord]:
    for key, change in changes.items():
        if isinstance(change, bytes):
            yield key, change, NO_HEADERS
        else:
            yield key, None, change.headers
