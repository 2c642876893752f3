"""Rule 4: no offset is passed over unseen.

An event above the expected offset means that frames vanished between Kafka and the agent: the
process ends and reads them again. Unless Kafka itself has dropped them: then they are lost, and
the ledger says how many.
"""

from collections.abc import Awaitable, Callable

import structlog

from contract.row import LedgerRow

log = structlog.get_logger(__name__)

FirstOffset = Callable[[int], Awaitable[int]]
"""Asks Kafka for the first offset of a source partition that still exists."""


class HoleError(RuntimeError):
    """Frames were passed over."""


async def check_hole(
    ledger: LedgerRow, partition: int, offset: int, first_offset: FirstOffset
) -> None:
    """Pass if `offset` is the next after the ledger's (or a replay), counting what Kafka dropped.

    Raises:
        HoleError: records before `offset` exist and were not handed over.
    """
    if offset <= ledger.offset + 1:
        return
    first = min(await first_offset(partition), offset)
    lost = first - (ledger.offset + 1)
    if lost > 0:
        log.error("Kafka dropped records before they were read", partition=partition, records=lost)
        ledger.lost += lost
        ledger.offset = first - 1
    if offset > ledger.offset + 1:
        raise HoleError(f"partition {partition}: expected {ledger.offset + 1}, was given {offset}")
