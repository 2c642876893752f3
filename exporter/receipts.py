"""Receipts: what became of one submission that was answered 200."""

import asyncio
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.frame import Frame, FrameError, decode_frame
from contract.position import Position, Receipt
from exporter.fates import Held, fate
from exporter.lookup import TooManyError, find_letter, find_record
from exporter.store import StateStore
from service.http import ApiError, unavailable
from service.settings import KafkaSettings

ANSWER_WITHIN = 8.0
"""Seconds that an answer may take."""
AT_ONCE = 4
"""Receipts that are looked up at a time: each costs two connections to a broker."""

Document = dict[str, Any]


def parse_receipt(text: str) -> Receipt:
    """Read the receipt of a path.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        return Receipt.parse(text)
    except ValueError as error:
        raise ApiError(400, str(error), field="receipt") from error


class Receipts:
    """Answers for the partitions that `store` serves."""

    def __init__(self, settings: KafkaSettings, store: StateStore) -> None:
        self._settings = settings
        self._store = store
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def state(self, receipt: Receipt) -> Document:
        """Say what became of a submission.

        Raises:
            ApiError: 404 where nothing (any more) stands behind the receipt, 421 for a partition
                that is not served here, 503 when Kafka does not answer.
        """
        if receipt.partition >= self._settings.kafka_partitions:
            raise ApiError(404, f"There is no partition {receipt.partition}")
        if receipt.partition not in self._store.ledgers:
            raise ApiError(421, f"Partition {receipt.partition} is not served by this exporter")
        try:
            async with asyncio.timeout(ANSWER_WITHIN), self._turn:
                return {"receipt": str(receipt)} | await self._state(receipt)
        except TooManyError:
            raise unavailable("There are too many dead letters to look through", 60) from None
        except (KafkaError, TimeoutError) as error:
            raise unavailable("Kafka does not answer") from error

    async def _state(self, receipt: Receipt) -> Document:
        first, end, record = await find_record(self._settings, receipt.partition, receipt.offset)
        if receipt.offset >= end:
            raise ApiError(404, f"Partition {receipt.partition} ends at {end}, before this receipt")
        if record is None:
            gone = f"Retention has deleted this submission: what is left begins at {first}"
            missing = f"Partition {receipt.partition} has no record at {receipt.offset}"
            raise ApiError(404, gone if receipt.offset < first else missing)
        frame = _frame_of(record)
        if frame is not None and receipt.index >= len(frame.submissions):
            count = len(frame.submissions)
            raise ApiError(404, f"The frame of this receipt has only {count} submissions")
        if self._store.ledgers[receipt.partition].offset < receipt.offset:
            return {"state": "queued"}
        return await self._processed(receipt, record, frame)

    async def _processed(
        self, receipt: Receipt, record: ConsumerRecord, frame: Frame | None
    ) -> Document:
        """What the ledger covers: a dead letter, else applied, stale or late."""
        position = Position(receipt.offset, receipt.index)
        row = self._row(frame, receipt)
        if row is not None and row.position == position:
            return _processed("applied")
        if self._store.ledgers[receipt.partition].dead_lettered:
            letter, complete = await find_letter(self._settings, receipt, record.timestamp)
            if letter is not None:
                return {"state": "dead_lettered", "reason": letter.reason}
            if not complete:
                return _processed(None, "or dead-lettered: the dead letters of then are deleted")
        if frame is None:
            return _processed(None)
        if frame.is_late(record.timestamp):
            return _processed("late")
        return _processed(fate(frame.submissions[receipt.index], position, row))

    def _row(self, frame: Frame | None, receipt: Receipt) -> Held | None:
        if frame is None:
            return None
        submission = frame.submissions[receipt.index]
        return self._store.find(submission.kind, submission.id)


def _frame_of(record: ConsumerRecord) -> Frame | None:
    """The frame, if this code can read it: a processor of another version may have."""
    try:
        return decode_frame(record.value)
    except FrameError:
        return None


def _processed(result: str | None, note: str | None = None) -> Document:
    answer = {"state": "processed", "result": result, "note": note}
    return {name: value for name, value in answer.items() if value is not None}
