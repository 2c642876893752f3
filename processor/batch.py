"""A batch: what some records do to one partition, apart from its state.

Rows stay decoded until the batch is written, so that one that changes often in a batch is encoded
once. They become part of the state when Kafka has acknowledged them: whatever happens to a
half-done batch, the state is what Kafka has.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

from contract.anomaly import Anomaly, Reason
from contract.position import Position
from contract.row import (
    POSITION_HEADER,
    EntityRow,
    LedgerRow,
    decode_entity_row,
    encode_position,
    encode_row,
)
from processor.state import PartitionState


@dataclass(frozen=True)
class Record:
    """A record of the submissions topic; `appended` is in milliseconds since the epoch."""

    partition: int
    offset: int
    appended: int
    value: bytes | None


@dataclass(frozen=True)
class DeadLetter:
    """What could not be processed: a whole record (index -1), or one submission of a frame."""

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


Changes = dict[bytes, EntityRow | bytes | Tombstone]
"""What becomes of rows, by key: another row, decoded or encoded, or none."""
ChangelogRecord = tuple[bytes, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""
NO_HEADERS: list[tuple[str, bytes]] = []


@dataclass
class PartitionBatch:
    """What one batch does to one partition."""

    state: PartitionState
    changes: Changes = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    noticed: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """Number of anomalies by kind and reason."""
    submissions: int = 0
    """Submissions that were read."""
    ledger: LedgerRow = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.state.ledger)

    def row(self, key: bytes) -> EntityRow | None:
        """The row as this batch leaves it.

        Raises:
            RowError: there is one that this code cannot read.
        """
        held = self.changes.get(key) or self.state.rows.get(key)
        if isinstance(held, bytes):
            return decode_entity_row(held)
        return None if isinstance(held, Tombstone) else held

    def records(self) -> Iterator[ChangelogRecord]:
        """Yield what is to be written to the changelog, encoding each row once."""
        changes = self.changes
        for key, change in changes.items():
            if isinstance(change, EntityRow):
                changes[key] = value = encode_row(change)
                yield key, value, NO_HEADERS
            elif isinstance(change, Tombstone):
                yield key, None, change.headers
            else:
                yield key, change, NO_HEADERS

    def settle(self) -> None:
        """Make it part of the state: Kafka has acknowledged all of it."""
        rows = self.state.rows
        encoded = {key: each for key, each in self.changes.items() if isinstance(each, bytes)}
        rows.update(encoded)
        if len(encoded) < len(self.changes):
            for key, change in self.changes.items():
                if isinstance(change, EntityRow):
                    rows[key] = encode_row(change)
                elif isinstance(change, Tombstone):
                    rows.pop(key, None)
                    self.state.memories.pop(key, None)
        self.state.ledger = self.ledger
