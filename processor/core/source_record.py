"""A record of the submissions topic, and what a batch notes of submissions that it rejects."""

from dataclasses import dataclass
from typing import NamedTuple

from contract.history import SourceMark
from contract.position import Receipt


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


class Unapplied(NamedTuple):
    """The newest submission of an entity that was not applied for one reason, and how many there
    were."""

    receipt: Receipt
    detail: str
    times: int
