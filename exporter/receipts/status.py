"""Receipt status: the outcome of an acknowledged submission."""

import asyncio
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.frame import Frame, FrameError, decode_frame
from contract.history import is_reused, place_in_log
from contract.ledger import LedgerRow
from contract.position import NO_TIME, Position, Receipt
from exporter.receipts.lookup import (
    RecordLookup,
    TooManyDeadLettersError,
    find_dead_letter,
    find_record,
    is_covered,
    is_newer_than,
    place_in_ledger,
)
from exporter.state.coverage import ReceiptCoverage, coverage, coverage_in_log
from exporter.state.outcome import RowVersion, infer_outcome
from exporter.state.store import StateStore
from service.config.settings import KafkaSettings
from service.http.errors import ApiError, unavailable
from service.plural import counted

LOOKUP_TIMEOUT = 8.0
"""Seconds that a lookup may take."""
MAX_CONCURRENT = 4
"""Maximum number of concurrent lookups; each opens two broker connections."""

Document = dict[str, Any]


def parse_receipt(text: str) -> Receipt:
    """Parse the receipt in a path.

    Raises:
        ApiError: 400, the receipt is malformed.
    """
    try:
        return Receipt.parse(text)
    except ValueError as error:
        raise ApiError(400, str(error), field="receipt") from error


class ReceiptStatus:
    """Looks up receipts of the partitions that `store` serves."""

    def __init__(self, settings: KafkaSettings, store: StateStore) -> None:
        self._settings = settings
        self._store = store
        self._concurrency = asyncio.Semaphore(MAX_CONCURRENT)

    async def lookup(self, receipt: Receipt) -> Document:
        """Return the outcome of a submission as a document.

        Raises:
            ApiError: 404 if no submission is found for the receipt, 421 if this exporter does not
            serve the partition, 503 if Kafka does not respond.
        """
        if receipt.partition >= self._settings.kafka_partitions:
            raise ApiError(404, f"There is no partition {receipt.partition}")
        if receipt.partition not in self._store.ledgers:
            raise ApiError(421, f"Partition {receipt.partition} is not served by this exporter")
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT), self._concurrency:
                return {"receipt": str(receipt)} | await self._lookup(receipt)
        except TooManyDeadLettersError:
            raise unavailable("Too many dead letters to search", 60) from None
        except (KafkaError, TimeoutError) as error:
            raise unavailable("Kafka does not respond") from error

    async def find(self, receipt: Receipt) -> RecordLookup:
        """Read the record at a receipt's offset.

        Raises:
            KafkaError: Kafka does not respond.
        """
        async with self._concurrency:
            return await find_record(self._settings, receipt.partition, receipt.offset)

    async def _lookup(self, receipt: Receipt) -> Document:
        lookup = await find_record(self._settings, receipt.partition, receipt.offset)
        ledger, record = self._store.ledgers[receipt.partition], lookup.record
        has_time = receipt.appended != NO_TIME
        if record is None or (has_time and record.timestamp != receipt.appended):
            return _absent(receipt, lookup, ledger)
        covered, is_newer = is_covered(ledger, receipt), is_newer_than(ledger, lookup)
        if not has_time and (is_reused(ledger.histories, record.offset) or (covered and is_newer)):
            return _ambiguous(_OFFSET_REUSED)
        frame = _frame_of(record)
        if frame is not None and receipt.index >= len(frame.submissions):
            count = counted(len(frame.submissions), "submission")
            raise ApiError(404, f"The frame of this receipt has only {count}")
        if not covered or is_newer:
            return {"state": "queued"}
        position = Position(place_in_log(ledger.histories, record.offset), receipt.index)
        return await self._processed(receipt, position, record, frame)

    async def _processed(
        self, receipt: Receipt, position: Position, record: ConsumerRecord, frame: Frame | None
    ) -> Document:
        """Return the outcome of a covered submission: dead-lettered, applied, stale or late."""
        row = self._row(frame, receipt)
        if row is not None and row.position == position:
            return _processed("applied")
        if self._store.ledgers[receipt.partition].dead_lettered:
            letter, complete = await find_dead_letter(
                self._settings, receipt.partition, position, record.timestamp
            )
            if letter is not None:
                return {"state": "dead_lettered", "reason": letter.reason}
            if not complete:
                return _processed(
                    None, "or dead-lettered: retention has deleted the dead letters of that time"
                )
        if frame is None:
            return _processed(None)
        if frame.is_late(record.timestamp):
            return _processed("late")
        return _processed(infer_outcome(frame.submissions[receipt.index], position, row))

    def _row(self, frame: Frame | None, receipt: Receipt) -> RowVersion | None:
        if frame is None:
            return None
        submission = frame.submissions[receipt.index]
        return self._store.find(submission.kind, submission.id)


def _absent(receipt: Receipt, lookup: RecordLookup, ledger: LedgerRow) -> Document:
    """Return the outcome of a submission that is not in the log.

    Raises:
        ApiError: 404, nothing is known about it.
    """
    if receipt.appended == NO_TIME:
        found = coverage(ledger, receipt)
    else:
        found = coverage_in_log(ledger, receipt, place_in_ledger(ledger, receipt, lookup))
    if found is ReceiptCoverage.LOST:
        return {
            "state": "lost",
            "note": "Kafka acknowledged the submission and lost it before it was processed",
        }
    if receipt.offset < lookup.first:
        raise ApiError(
            404, f"Retention has deleted this submission: the log starts at {lookup.first}"
        )
    if receipt.appended == NO_TIME and receipt.offset < lookup.end:
        # A transaction marker, or an offset removed by compaction: never a frame of this history.
        if is_reused(ledger.histories, receipt.offset):
            return _ambiguous(_OFFSET_REUSED)
        raise ApiError(404, f"Partition {receipt.partition} has no record at {receipt.offset}")
    match found:
        case ReceiptCoverage.COUNTED:
            return _processed(None, "Kafka has lost the record since")
        case ReceiptCoverage.UNKNOWN:
            return _ambiguous("Kafka has lost the record; it is unknown whether it was processed")
    raise ApiError(404, f"Partition {receipt.partition} ends at {lookup.end}, before this receipt")


_OFFSET_REUSED = (
    "Kafka has used this offset twice; only a receipt with an append time is unambiguous"
)


def _ambiguous(note: str) -> Document:
    return {"state": "ambiguous", "note": note}


def _frame_of(record: ConsumerRecord) -> Frame | None:
    """Return the frame, None if this version cannot decode it (another version may have)."""
    try:
        return decode_frame(record.value)
    except FrameError:
        return None


def _processed(result: str | None, note: str | None = None) -> Document:
    document = {"state": "processed", "result": result, "note": note}
    return {name: value for name, value in document.items() if value is not None}
