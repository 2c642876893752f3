"""Waiting for a submission: `/metrics?after=<receipt>` answers once the scrape includes it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from contract.position import Receipt
from service.http import ApiError, unavailable


class Coverage:
    """How far each partition's ledger row has come, for those who wait for it.

    A ledger row is the last record of its flush, so whoever has read it has every row that it
    covers.
    """

    def __init__(self, partitions: Iterable[int], max_waiters: int) -> None:
        self._offsets = dict.fromkeys(partitions, -1)
        self._waiters: dict[asyncio.Future[None], dict[int, int]] = {}
        self._max_waiters = max_waiters

    def advance(self, offsets: Mapping[int, int]) -> None:
        """Take the offsets that the ledger rows cover now, and let those go who waited for them."""
        self._offsets.update(offsets)
        for waiter, wanted in self._waiters.items():
            if not waiter.done() and self._covers(wanted):
                waiter.set_result(None)

    async def reach(self, receipts: Sequence[Receipt], timeout: float) -> None:
        """Return once every receipt is covered.

        Raises:
            ApiError: 421 for a partition that is not served here, 503 when too many wait already,
                504 when `timeout` seconds have passed.
        """
        wanted: dict[int, int] = {}
        for receipt in receipts:
            if receipt.partition not in self._offsets:
                raise ApiError(421, f"Partition {receipt.partition} is not served by this exporter")
            wanted[receipt.partition] = max(receipt.offset, wanted.get(receipt.partition, -1))
        if self._covers(wanted):
            return
        if len(self._waiters) >= self._max_waiters:
            raise unavailable("Too many scrapes wait for a submission")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = wanted
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise ApiError(504, f"The submission was not processed within {timeout:g} s") from None
        finally:
            del self._waiters[waiter]

    def _covers(self, wanted: dict[int, int]) -> bool:
        return all(self._offsets[p] >= offset for p, offset in wanted.items())


def parse_receipts(texts: Sequence[str]) -> list[Receipt]:
    """Read the receipts of a query.

    Raises:
        ApiError: 400, one of them is malformed.
    """
    try:
        return [Receipt.parse(text) for text in texts]
    except ValueError as error:
        raise ApiError(400, str(error), field="after") from error
