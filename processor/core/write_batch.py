"""A batch: what some records do to one partition, apart from its state.

It becomes part of the state when Kafka has acknowledged it: whatever happens to a half-done batch,
the state is what Kafka has. A row that changes often in a frame is decoded and encoded once.
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
"""Most that an encoded row may have. Kafka takes about 1 MiB in one piece, key and ledger included;
a usual row has 500 bytes."""


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


@dataclass
class WriteBatch:
    """What one batch does to one partition."""

    state: PartitionState
    changes: Changes = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    anomaly_counts: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """Number of anomalies by kind and reason."""
    submissions: int = 0
    """Submissions that were read."""
    ledger: LedgerRow = field(init=False)
    _staged: dict[bytes, EntityRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.state.ledger)

    def row(self, key: bytes) -> EntityRow | None:
        """The row as this batch leaves it.

        Raises:
            RowVersionError: there is one of a version that this code does not know.
            RowError: there is one that nobody can read.
        """
        row = self._staged.get(key)
        if row is not None:
            return row
        held = self.changes.get(key) or self.state.rows.get(key)
        return decode_entity_row(held) if isinstance(held, bytes) else None

    def encoded_row(self, key: bytes) -> bytes | None:
        """The row, encoded, as it was before the frame."""
        held = self.changes.get(key) or self.state.rows.get(key)
        return held if isinstance(held, bytes) else None

    def stage(self, key: bytes, row: EntityRow) -> None:
        """Change a row; `encode_staged` must follow."""
        self._staged[key] = row

    def encode_staged(self) -> dict[bytes, int]:
        """Encode what was put, at the end of each frame, while it is in the CPU's cache.

        Rows that are too large to write stay as they were; returns their keys and sizes.
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
        """The ledger as it is to be written; an older worker may have written it before."""
        self.ledger.version = ledger_version(self.ledger)
        return encode_row(self.ledger)

    def records(self) -> Iterator[ChangelogRecord]:
        """Yield what is to be written to the changelog."""
        for key, change in self.changes.items():
            if isinstance(change, bytes):
                yield key, change, NO_HEADERS
            else:
                yield key, None, change.headers

    def commit(self) -> None:
        """Make it part of the state: Kafka has acknowledged all of it."""
        rows = {key: each for key, each in self.changes.items() if isinstance(each, bytes)}
        self.state.rows.update(rows)
        if len(rows) < len(self.changes):
            for key in self.changes.keys() - rows.keys():
                self.state.rows.pop(key, None)
                self.state.histories.pop(key, None)
        self.state.ledger = self.ledger
