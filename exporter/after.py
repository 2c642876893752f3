"""Waiting for a submission: `/metrics?after=<receipt>` responds once the scrape includes it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from contract.position import Receipt
from contract.row import LedgerRow, empty_ledger
from exporter.coverage import Coverage, coverage
from service.http import ApiError, unavailable


class ReadBarrier:
    """How far each partition's ledger row has come, for requests that wait for it.

    A ledger row is the last record of its flush: a reader of it has every row that it covers.
    """

    def __init__(self, partitions: Iterable[int], max_waiters: int) -> None:
        self._ledgers = {partition: empty_ledger() for partition in partitions}
        self._waiters: dict[asyncio.Future[None], list[Receipt]] = {}
        self._max_waiters = max_waiters

    def advance(self, ledgers: Mapping[int, LedgerRow]) -> None:
        """Take the ledger rows as they are now, and wake the requests whose receipts they cover."""
        self._ledgers.update(ledgers)
        for waiter, wanted in self._waiters.items():
            if waiter.done():
                continue
            try:
                wanted[:] = self._uncovered(wanted)
            except ApiError as error:
                waiter.set_exception(error)
                continue
            if not wanted:
                waiter.set_result(None)

    async def reach(self, receipts: Sequence[Receipt], timeout: float) -> None:
        """Return once every receipt is covered.

        Raises:
            ApiError: 410 for a submission that Kafka has lost, 421 for a partition that is not
                served here, 503 when too many wait already, 504 when `timeout` seconds have passed.
        """
        wanted: dict[tuple[int, int, int], Receipt] = {}
        for receipt in receipts:
            if receipt.partition not in self._ledgers:
                raise ApiError(421, f"Partition {receipt.partition} is not served by this exporter")
            wanted[receipt.partition, receipt.offset, receipt.appended] = receipt
        uncovered = self._uncovered(wanted.values())
        if not uncovered:
            return
        if len(self._waiters) >= self._max_waiters:
            raise unavailable("Too many scrapes wait for a submission")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = uncovered
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise ApiError(504, f"The submission was not processed within {timeout:g} s") from None
        finally:
            del self._waiters[waiter]

    def _uncovered(self, receipts: Iterable[Receipt]) -> list[Receipt]:
        """The receipts that are not covered yet.

        Raises:
            ApiError: 410, the submission of one is lost.
        """
        found = []
        for receipt in receipts:
            match coverage(self._ledgers[receipt.partition], receipt):
                case Coverage.LOST:
                    raise ApiError(410, f"Kafka has lost the submission of receipt {receipt}")
                case Coverage.WAITING:
                    found.append(receipt)
        return found


def parse_receipts(texts: Sequence[str]) -> list[Receipt]:
    """Read the receipts of a query.

    Raises:
        ApiError: 400, one of them is malformed.
    """
    try:
        return [Receipt.parse(text) for text in texts]
    except ValueError as error:
        raise ApiError(400, str(error), field="after") from error
