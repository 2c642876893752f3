"""Looks up a record by its offset, and a dead letter by its source."""

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord
from aiokafka.errors import OffsetOutOfRangeError

from contract.dead_letter import WHOLE_FRAME, DeadLetterError, DeadLetterSource, decode_source
from contract.history import place_in_log
from contract.ledger import LedgerRow
from contract.position import Position, Receipt
from exporter.state.coverage import MAX_CLOCK_SKEW_MS, LogPlace
from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.record_batches import leader_epoch
from service.kafka.reader import TopicReader
from service.kafka.source_reader import SourceReader
from service.kafka.topics import topics_from

MAX_DEAD_LETTERS = 10_000
"""Maximum number of dead letters that are read for one receipt."""


class TooManyDeadLettersError(Exception):
    """There are too many dead letters in the time range to read them all."""


class RecordLookup(NamedTuple):
    """A record, the first and end offsets of its partition, and the topic's id."""

    first: int
    end: int
    record: ConsumerRecord | None
    topic: str


class DeadLetterLookup(NamedTuple):
    """The dead letter of a submission, if any. `complete`: no dead letter can have been deleted."""

    dead_letter: DeadLetterSource | None
    complete: bool


async def find_record(settings: KafkaSettings, partition: int, offset: int) -> RecordLookup:
    """Read one record of the submissions topic.

    Raises:
        KafkaError: Kafka does not respond.
    """
    record = None
    topic = topics_from(settings).submissions.name
    async with SourceReader(settings, topic, [partition]) as reader:
        details = await reader.describe()
        first = (await reader.beginning_offsets())[partition]
        end = (await reader.end_offsets())[partition]
        if first <= offset < end:
            try:
                record = await reader.record_from(partition, offset, end)
            except OffsetOutOfRangeError:  # retention has just deleted it
                first = offset + 1
    if record is not None and record.offset != offset:
        record = None
    return RecordLookup(first, end, record, details.id)


def place_in_ledger(ledger: LedgerRow, receipt: Receipt, lookup: RecordLookup) -> LogPlace:
    """Compare the record at a receipt's offset with the ledger."""
    record = lookup.record
    return LogPlace(
        appended=None if record is None else record.timestamp,
        is_counted=(
            record is not None and is_covered(ledger, receipt) and not is_newer_than(ledger, lookup)
        ),
        is_deleted=receipt.offset < lookup.first,
    )


def is_covered(ledger: LedgerRow, receipt: Receipt) -> bool:
    """Return whether the ledger covers a receipt's offset, in the newest history of that offset."""
    return place_in_log(ledger.histories, receipt.offset) <= ledger.offset


def is_newer_than(ledger: LedgerRow, lookup: RecordLookup) -> bool:
    """Return whether a record belongs to a history that the ledger does not have yet."""
    if ledger.mark is None:
        return ledger.next_offset > lookup.end
    if lookup.record is None or lookup.topic != ledger.mark.topic:
        return True
    return (leader_epoch(lookup.record) or 0) > ledger.mark.epoch


async def find_dead_letter(
    settings: KafkaSettings, partition: int, position: Position, appended_ms: int
) -> DeadLetterLookup:
    """Find the dead letter of a submission in a frame appended at `appended_ms`.

    Frames of a partition are processed in order, so its letters are in offset order: the search
    ends at the first letter of a later frame.

    Raises:
        KafkaError: Kafka does not respond.
        TooManyDeadLettersError: there are too many to read.
    """
    search = _DeadLetterSearch(position)
    topic = topics_from(settings).dead_letter.name
    async with TopicReader(settings, topic, [partition]) as reader:
        first = (await reader.beginning_offsets())[partition]
        end = (await reader.end_offsets())[partition]
        start = await reader.offset_at(partition, appended_ms - MAX_CLOCK_SKEW_MS)
        complete = first == 0 or first < (end if start is None else start)
        if start is not None:
            reader.seek({partition: start})
            while not search.ended and await reader.position(partition) < end:
                await reader.poll(search.apply)
    return DeadLetterLookup(search.found, complete or search.before)


class _DeadLetterSearch:
    def __init__(self, position: Position) -> None:
        self._position = position
        self._seen = 0
        self.found: DeadLetterSource | None = None
        self.ended = False
        self.before = False
        """Whether a letter of an earlier frame was found; then none of this frame is deleted."""

    def apply(self, _: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                source = decode_source(record.headers)
            except DeadLetterError:
                continue
            if source.offset > self._position.offset:
                self.ended = True
                return
            self.before = self.before or source.offset < self._position.offset
            if source.offset == self._position.offset and source.index in (
                WHOLE_FRAME,
                self._position.index,
            ):
                self.found = source
                self.ended = True
                return
        self._seen += len(records)
        if self._seen > MAX_DEAD_LETTERS:
            raise TooManyDeadLettersError
