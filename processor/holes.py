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

    @property
    def next(self) -> int:
        """Where to continue: nothing is at the offsets before it."""
        return self.end if self.record is None else self.record


LookAhead = Callable[[int, int], Awaitable[Ahead]]
"""Asks Kafka what a source partition has from an offset of its own on."""


class HoleError(RuntimeError):
    """Frames were passed over."""


async def check_hole(ledger: LedgerRow, partition: int, offset: int, look_ahead: LookAhead) -> None:
    """Pass if no record lies between the ledger and the logical offset `offset`.

    Counts what Kafka deleted in between.

    Raises:
        HoleError: records before `offset` exist and were not handed over.
    """
    if offset <= ledger.offset + 1:
        return
    given = offset - ledger.shift
    ahead = await look_ahead(partition, ledger.next_offset)
    count_lost(ledger, partition, min(ahead.first, given))
    if ahead.next < given:
        raise HoleError(f"partition {partition}: expected {ahead.next}, was given {given}")
    ledger.offset = offset - 1


def count_lost(ledger: LedgerRow, partition: int, first: int) -> None:
    """Count what the ledger does not cover and Kafka has deleted: records before its `first`."""
    lost = first - ledger.next_offset
    if lost > 0:
        log.error("Kafka dropped records before they were read", partition=partition, records=lost)
        ledger.lost += lost
        ledger.offset += lost
