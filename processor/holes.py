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
    """What Kafka has of a partition from some offset on."""

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
"""Asks Kafka what a source partition has from an offset on."""


class HoleError(RuntimeError):
    """Frames were passed over."""


async def check_hole(ledger: LedgerRow, partition: int, offset: int, look_ahead: LookAhead) -> None:
    """Pass if no record lies between the ledger and `offset`, counting what Kafka deleted.

    Raises:
        HoleError: records before `offset` exist and were not handed over.
    """
    expected = ledger.offset + 1
    if offset <= expected:
        return
    ahead = await look_ahead(partition, expected)
    count_lost(ledger, partition, min(ahead.first, offset))
    if ahead.next < offset:
        raise HoleError(f"partition {partition}: expected {ahead.next}, was given {offset}")
    ledger.offset = offset - 1


def count_lost(ledger: LedgerRow, partition: int, first: int) -> None:
    """Count what the ledger does not cover and Kafka has deleted: records before `first`."""
    lost = first - (ledger.offset + 1)
    if lost > 0:
        log.error("Kafka dropped records before they were read", partition=partition, records=lost)
        ledger.lost += lost
        ledger.offset = first - 1
