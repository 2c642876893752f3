"""A write batch: the changes of some records to one partition, separate from its state.

It becomes part of the state after Kafka has acknowledged it, so the state always equals the
changelog. A row that changes several times in a frame is decoded and encoded once.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

from contract.anomaly import Anomaly, Reason
from contract.history import SourceMark
from contract.position import Position
from contract.row import (
    POSITION_HEADER,
    EntityRow,
    LedgerRow,
    decode_entity_row,
    encode_position,
    encode_row,
    ledger_version,
)
from processor.core.partition_state import PartitionState

MAX_ROW_BYTES = 512 * 1024
"""Maximum size of an encoded row. Kafka's limit for a batch is about 1 MiB, including key and
ledger; a usual row has 500 bytes."""


@dataclass(frozen=True)
class Record:
    """A record of the submissions topic; `appended_ms` is in milliseconds since the epoch.

    `offset` is logical (contract.history); `shift` is the logical offset minus Kafka's offset.
    `epoch` is the leader epoch of the batch and `topic` the topic's id, None if unknown.
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
        """Kafka's offset of the record."""
        return self.offset - self.shift

    @property
    def mark(self) -> SourceMark | None:
        if self.epoch is None or self.topic is None:
            return None
        return SourceMark(self.source_offset, self.epoch, self.appended_ms, self.topic)


@dataclass(frozen=True)
class DeadLetter:
    """Data that could not be processed: a whole record, a submission of a frame, or a row.

    `record` is its source, or the record that led to it. contract.dead_letter defines the indexes
    of data other than submissions.
    """

    record: Record
    index: int
    value: bytes
    reason: str


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


@dataclass
class WriteBatch:
    """The changes of one batch to one partition."""

    state: PartitionState
    changes: Changes = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    anomaly_counts: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """Number of anomalies by kind and reason."""
    submissions: int = 0
    """Number of submissions read."""
    ledger: LedgerRow = field(init=False)
    _staged: dict[bytes, EntityRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.state.ledger)

    def row(self, key: bytes) -> EntityRow | None:
        """Return the row including this batch's changes, None if there is none.

        Raises:
            RowVersionError: the row's version is not supported.
            RowError: the row cannot be decoded.
        """
        row = self._staged.get(key)
        if row is not None:
            return row
        encoded = self.changes.get(key) or self.state.rows.get(key)
        return decode_entity_row(encoded) if isinstance(encoded, bytes) else None

    def encoded_row(self, key: bytes) -> bytes | None:
        """Return the encoded row as it was before the current frame."""
        encoded = self.changes.get(key) or self.state.rows.get(key)
        return encoded if isinstance(encoded, bytes) else None

    def stage(self, key: bytes, row: EntityRow) -> None:
        """Change a row; call `encode_staged` afterwards."""
        self._staged[key] = row

    def encode_staged(self) -> dict[bytes, int]:
        """Encode the staged rows; called after each frame, while they are in the CPU cache.

        Rows that are too large to write stay unchanged; returns their keys and sizes.
        """
        too_large = {}
        for key, row in self._staged.items():
            encoded = encode_row(row)
            if len(encoded) > MAX_ROW_BYTES:
                too_large[key] = len(encoded)
            else:
                self.changes[key] = encoded
        self._staged.clear()
        return too_large

    def encoded_ledger(self) -> bytes:
        """Encode the ledger, in the oldest version that is sufficient."""
        self.ledger.version = ledger_version(self.ledger)
        return encode_row(self.ledger)

    def records(self) -> Iterator[ChangelogRecord]:
        """Yield the changelog records of the changes."""
        for key, change in self.changes.items():
            if isinstance(change, bytes):
                yield key, change, NO_HEADERS
            else:
                yield key, None, change.headers

    def commit(self) -> None:
        """Apply the changes to the state, after Kafka has acknowledged all of them."""
        rows = {key: each for key, each in self.changes.items() if isinstance(each, bytes)}
        self.state.rows.update(rows)
        if len(rows) < len(self.changes):
            for key in self.changes.keys() - rows.keys():
                self.state.rows.pop(key, None)
                self.state.histories.pop(key, None)
        self.state.ledger = self.ledger
