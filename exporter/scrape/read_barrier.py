"""The read barrier: `/metrics?after=<receipt>` responds once the scrape includes the submission."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from aiokafka.errors import KafkaError

from contract.ledger import LedgerRow, empty_ledger
from contract.position import NO_TIME, Receipt
from exporter.receipts.lookup import RecordLookup, is_covered, place_in_ledger
from exporter.state.coverage import ReceiptCoverage, coverage, coverage_in_log
from service.http.errors import ApiError, unavailable

Find = Callable[[Receipt], Awaitable[RecordLookup]]
"""Reads the record at a receipt's offset."""


class ReadBarrier:
    """Lets requests wait until the partition's ledger covers their receipts.

    A ledger row is the last record of its flush, so a reader of it has all rows that it covers. If
    the log may have lost its end near a receipt, the record in Kafka decides.
    """

    def __init__(self, partitions: Iterable[int], max_waiters: int, find: Find) -> None:
        self._ledgers = {partition: empty_ledger() for partition in partitions}
        self._find = find
        self._waiters: dict[asyncio.Future[None], list[Receipt]] = {}
        self._requests = 0
        self._max_waiters = max_waiters

    def advance(self, ledgers: Mapping[int, LedgerRow]) -> None:
        """Set the current ledger rows and wake the requests that they may complete."""
        before = self._ledgers
        self._ledgers = {**before, **ledgers}
        for waiter, receipts in self._waiters.items():
            if not waiter.done() and any(
                _may_progress(before[receipt.partition], ledgers[receipt.partition], receipt)
                for receipt in receipts
                if receipt.partition in ledgers
            ):
                waiter.set_result(None)

    async def wait_for(self, receipts: Sequence[Receipt], timeout: float) -> None:
        """Return once every receipt is covered.

        Raises:
            ApiError: 410 if Kafka has lost a submission, 421 if this exporter does not serve a
            partition, 503 if too many requests wait or Kafka does not respond, 504 after `timeout`
            seconds.
        """
        wanted: dict[tuple[int, int, int], Receipt] = {}
        for receipt in receipts:
            if receipt.partition not in self._ledgers:
                raise ApiError(421, f"Partition {receipt.partition} is not served by this exporter")
            wanted[receipt.partition, receipt.offset, receipt.appended] = receipt
        uncovered = [
            receipt
            for receipt in wanted.values()
            if coverage(self._ledgers[receipt.partition], receipt) is not ReceiptCoverage.COUNTED
        ]
        if not uncovered:
            return
        if self._requests >= self._max_waiters:
            raise unavailable("Too many scrapes wait for a submission")
        self._requests += 1
        try:
            async with asyncio.timeout(timeout):
                await self._wait_until_covered(uncovered)
        except TimeoutError:
            raise ApiError(504, f"The submission was not processed within {timeout:g} s") from None
        except KafkaError as error:
            raise unavailable("Kafka does not respond") from error
        finally:
            self._requests -= 1

    async def _wait_until_covered(self, receipts: list[Receipt]) -> None:
        while True:
            seen = self._ledgers
            receipts = [receipt for receipt in receipts if await self._is_waiting(receipt)]
            if not receipts:
                return
            if any(self._has_progressed(seen, receipt) for receipt in receipts):
                continue
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = receipts
            try:
                await waiter
            finally:
                del self._waiters[waiter]

    def _has_progressed(self, seen: Mapping[int, LedgerRow], receipt: Receipt) -> bool:
        """Return whether the ledger has progressed for a receipt since `seen`."""
        before, now = seen[receipt.partition], self._ledgers[receipt.partition]
        return now is not before and _may_progress(before, now, receipt)

    async def _is_waiting(self, receipt: Receipt) -> bool:
        """Return whether a receipt is not covered yet.

        Raises:
            ApiError: 410, the submission is lost, or its outcome is unknown.
            KafkaError: Kafka does not respond.
        """
        found = coverage(self._ledgers[receipt.partition], receipt)
        if found is ReceiptCoverage.UNKNOWN and receipt.appended != NO_TIME:
            lookup = await self._find(receipt)
            ledger = self._ledgers[receipt.partition]
            found = coverage_in_log(ledger, receipt, place_in_ledger(ledger, receipt, lookup))
        match found:
            case ReceiptCoverage.LOST:
                raise ApiError(410, f"Kafka has lost the submission of receipt {receipt}")
            case ReceiptCoverage.UNKNOWN:
                raise ApiError(
                    410,
                    f"Kafka no longer has the submission of receipt {receipt}, and it is unknown "
                    "whether it was processed",
                )
        return found is ReceiptCoverage.WAITING


def _may_progress(before: LedgerRow, now: LedgerRow, receipt: Receipt) -> bool:
    """Return whether the newer ledger may change the coverage of a receipt."""
    return (
        is_covered(now, receipt)
        or now.parted != before.parted
        or now.epochs[-1:] != before.epochs[-1:]
    )


def parse_receipts(texts: Sequence[str]) -> list[Receipt]:
    """Parse the receipts of a query.

    Raises:
        ApiError: 400, a receipt is malformed.
    """
    try:
        return [Receipt.parse(text) for text in texts]
    except ValueError as error:
        raise ApiError(400, str(error), field="after") from error
