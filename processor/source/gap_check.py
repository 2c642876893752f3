"""Rule 4: no offset is skipped without a reason.

An event above the expected offset has three possible causes. Retention deleted the records before
it: they are lost, and the ledger counts them. There is no record at those offsets: a transaction
marker uses an offset, and compaction leaves gaps. Or frames were lost between Kafka and the agent:
the process ends and reads them again. Kafka's offsets show which one it is.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from contract.ledger import LedgerRow

log = structlog.get_logger(__name__)


class Ahead(NamedTuple):
    """What Kafka has of a partition from some offset on. All offsets are Kafka's offsets."""

    first: int
    """First offset that retention has not deleted."""
    record: int | None
    """Offset of the next record; None if there is none yet."""
    end: int
    """Offset of the next append."""
    topic: str
    """Id of the topic."""
    epoch: int
    """Epoch of the leader that responded."""

    @property
    def next(self) -> int:
        """The offset to continue at; there are no records before it."""
        return self.end if self.record is None else self.record

    def is_of(self, topic: str | None, epoch: int) -> bool:
        """Return whether it describes the log that the ledger was last compared with.

        In another log, an offset without a record proves nothing about the expected one.
        """
        return (self.topic, self.epoch) == (topic, epoch)


LookAhead = Callable[[int, int], Awaitable[Ahead]]
"""Requests what a source partition has from one of Kafka's offsets on."""


class OffsetGapError(RuntimeError):
    """Frames were skipped."""


def is_gap(ledger: LedgerRow, offset: int) -> bool:
    """Return whether a logical offset is above the one that the ledger expects."""
    return offset > ledger.offset + 1


def skip_gap(ledger: LedgerRow, partition: int, offset: int, ahead: Ahead) -> None:
    """Skip the offsets between the ledger and the logical `offset`, which have no records.

    Deleted records among them are counted as lost.

    Raises:
        OffsetGapError: records before `offset` exist but were not delivered.
    """
    given = offset - ledger.shift
    count_lost(ledger, partition, min(ahead.first, given), ahead)
    if ahead.next < given:
        raise OffsetGapError(f"partition {partition}: expected offset {ahead.next}, got {given}")
    if ledger.next_offset < given:
        ledger.skip_to(given, 0, ahead.epoch, ahead.topic)


def count_lost(ledger: LedgerRow, partition: int, first: int, ahead: Ahead) -> None:
    """Count the records before `first` that the ledger does not cover and Kafka has deleted."""
    lost = first - ledger.next_offset
    if lost > 0:
        log_lost(partition, lost)
        ledger.skip_to(first, lost, ahead.epoch, ahead.topic)


def log_lost(partition: int, records: int) -> None:
    log.error("Kafka deleted records before they were read", partition=partition, records=records)
