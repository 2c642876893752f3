"""Rule 4: no offset is passed over unseen.

An event above the expected offset has three explanations. Retention deleted what was before it:
those records are lost, and the ledger counts them. Or there is no record at those offsets: a
transaction's marker has an offset, and compaction leaves holes. Or frames vanished between Kafka
and the agent: the process ends and reads them again. Kafka says which it is.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from contract.row import LedgerRow

log = structlog.get_logger(__name__)


class Ahead(NamedTuple):
    """What Kafka has of a partition from some offset on. All offsets are Kafka's own."""

    first: int
    """First offset that retention has not deleted."""
    record: int | None
    """Offset of the next record; None if there is none yet."""
    end: int
    """Offset that the next append gets."""
    topic: str
    """Id of the topic."""
    epoch: int
    """Epoch of the leader that said so."""

    @property
    def next(self) -> int:
        """Where to continue: nothing is at the offsets before it."""
        return self.end if self.record is None else self.record

    def is_of(self, topic: str | None, epoch: int) -> bool:
        """Tell whether it is of the log that a ledger was compared with last.

        In another one, an offset without a record says nothing about what the ledger expects.
        """
        return (self.topic, self.epoch) == (topic, epoch)


LookAhead = Callable[[int, int], Awaitable[Ahead]]
"""Asks Kafka what a source partition has from an offset of its own on."""


class OffsetGapError(RuntimeError):
    """Frames were passed over."""


def is_hole(ledger: LedgerRow, offset: int) -> bool:
    """Tell whether the logical offset is above the one that the ledger expects."""
    return offset > ledger.offset + 1


def skip_hole(ledger: LedgerRow, partition: int, offset: int, ahead: Ahead) -> None:
    """Skip what lies between the ledger and the logical `offset`: there is no record.

    Counts what Kafka deleted in between.

    Raises:
        HoleError: records before `offset` exist and were not handed over.
    """
    given = offset - ledger.shift
    count_lost(ledger, partition, min(ahead.first, given), ahead)
    if ahead.next < given:
        raise OffsetGapError(f"partition {partition}: expected {ahead.next}, was given {given}")
    if ledger.next_offset < given:
        ledger.skip_to(given, 0, ahead.epoch, ahead.topic)


def count_lost(ledger: LedgerRow, partition: int, first: int, ahead: Ahead) -> None:
    """Count what the ledger does not cover and Kafka has deleted: records before its `first`."""
    lost = first - ledger.next_offset
    if lost > 0:
        log_lost(partition, lost)
        ledger.skip_to(first, lost, ahead.epoch, ahead.topic)


def log_lost(partition: int, records: int) -> None:
    log.error("Kafka dropped records before they were read", partition=partition, records=records)
