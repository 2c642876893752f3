"""Records of the dead-letter topic: read, filtered, shown, deleted."""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from contract.dead_letter import (
    CORRUPT_ROW,
    WHOLE_FRAME,
    DeadLetterError,
    DeadLetterSource,
    decode_source,
)
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.dead_letter_value import unpack_value
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tobogganing.errors import LocalError
from tobogganing.time_param import format_time

_ID = re.compile(r"(\d{1,9})-(\d{1,18})", re.ASCII)


class DeadLetterId(NamedTuple):
    """A record of the dead-letter topic, as `partition-offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an id.

        Raises:
            ValueError: the text is not one.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not the id of a dead letter (partition-offset)")
        return cls(int(match[1]), int(match[2]))


class DeadLetterRecord(NamedTuple):
    """One record of the dead-letter topic; `appended_ms` is its append time in milliseconds."""

    id: DeadLetterId
    appended_ms: int
    origin: DeadLetterSource
    value: bytes

    @property
    def source(self) -> str:
        """Its source: the receipt of a submission, or the offset of a frame."""
        place = f"{self.id.partition}-{self.origin.source_offset}"
        match self.origin.index:
            case index if index >= 0:
                source = self.origin
                return str(Receipt(self.id.partition, source.source_offset, index, source.appended))
            case index if index == WHOLE_FRAME:
                return f"frame {place}"
            case index if index == CORRUPT_ROW:
                return f"a row, found at {place}"
        return "unknown"

    def document(self) -> dict[str, Any]:
        document = {
            "id": str(self.id),
            "written_at": format_time(self.appended_ms),
            "reason": self.origin.reason,
            "partition": self.id.partition,
            "offset": self.origin.source_offset,
            "index": self.origin.index,
            "appended_at": format_time(self.origin.appended),
            "size": self.origin.truncated_from or len(self.value),
        }
        if self.origin.truncated_from is not None:
            document["kept"] = len(self.value)
        return document


def to_dead_letter(
    id: DeadLetterId, written: int, headers: Iterable[tuple[str, bytes]], value: bytes | None
) -> DeadLetterRecord:
    """Decode a record; one without a valid source gets an unknown one."""
    value = value or b""
    try:
        source = decode_source(headers)
        value = unpack_value(source, value)
    except DeadLetterError as error:
        source = DeadLetterSource(str(error), -1, CORRUPT_ROW - 1, written)
    return DeadLetterRecord(id, written, source, value)


class DeadLetterFilter(NamedTuple):
    """A choice of dead letters; `since` is in milliseconds since the epoch."""

    partition: int | None = None
    since: int | None = None
    reason: str | None = None
    """Text that the reason contains, in upper or lower case."""

    def matches(self, letter: DeadLetterRecord) -> bool:
        if self.since is not None and letter.appended_ms < self.since:
            return False
        return self.reason is None or self.reason.casefold() in letter.origin.reason.casefold()


def pretty(value: bytes) -> str:
    """Bytes as text: indented JSON, else with special characters escaped."""
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=True)
    except (ValueError, RecursionError):
        return repr(value)[2:-1]


def content(value: bytes) -> dict[str, str]:
    """Bytes for JSON: as `value` if they are text, else as `value_base64`."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}


async def read_dead_letters(
    settings: KafkaSettings, wanted: DeadLetterFilter
) -> AsyncIterator[DeadLetterRecord]:
    """Yield the existing dead letters by partition, in bounded memory.

    Raises:
        LocalError: there is no such partition.
        KafkaError: Kafka does not respond.
    """
    everything = range(settings.kafka_partitions)
    if wanted.partition is not None and wanted.partition not in everything:
        raise LocalError(f"there is no partition {wanted.partition}")
    for partition in everything if wanted.partition is None else [wanted.partition]:
        async with _reader(settings, partition) as reader:
            (end,) = (await reader.end_offsets()).values()
            (start,) = (await reader.beginning_offsets()).values()
            if wanted.since is not None:
                found = await reader.offset_at(partition, wanted.since)
                start = end if found is None else found
            reader.seek({partition: start})
            while await reader.position(partition) < end:
                for letter in await _next(reader, partition):
                    if letter.id.offset < end and wanted.matches(letter):
                        yield letter


async def read_dead_letter(settings: KafkaSettings, id: DeadLetterId) -> DeadLetterRecord:
    """Read one dead letter.

    Raises:
        LocalError: there is no such dead letter.
        KafkaError: Kafka does not respond.
    """
    if id.partition < settings.kafka_partitions:
        async with _reader(settings, id.partition) as reader:
            (end,) = (await reader.end_offsets()).values()
            (first,) = (await reader.beginning_offsets()).values()
            if first <= id.offset < end:
                reader.seek({id.partition: id.offset})
                while await reader.position(id.partition) <= id.offset:
                    for letter in await _next(reader, id.partition):
                        if letter.id == id:
                            return letter
    raise LocalError(f"there is no dead letter {id}: it never existed, was purged, or has expired")


async def offsets_before(settings: KafkaSettings, time: int | None) -> dict[int, tuple[int, int]]:
    """By partition, the first offset, and the end of the letters written before `time`, or of all.

    Raises:
        KafkaError: Kafka does not respond.
    """
    partitions = range(settings.kafka_partitions)
    async with TopicReader(settings, topics_from(settings).dead_letter.name, partitions) as reader:
        firsts, ends = await reader.beginning_offsets(), await reader.end_offsets()
        if time is not None:
            for partition in partitions:
                found = await reader.offset_at(partition, time)
                ends[partition] = ends[partition] if found is None else found
    return {partition: (firsts[partition], ends[partition]) for partition in partitions}


async def delete_dead_letters(settings: KafkaSettings, ends: Mapping[int, int]) -> None:
    """Delete the records before an offset of each partition.

    Raises:
        KafkaError: Kafka does not respond, or refuses.
    """
    topic = topics_from(settings).dead_letter.name
    async with admin_client(settings) as admin:
        await admin.delete_records(
            {TopicPartition(topic, p): RecordsToDelete(end) for p, end in ends.items()}
        )


def _reader(settings: KafkaSettings, partition: int) -> TopicReader:
    return TopicReader(settings, topics_from(settings).dead_letter.name, [partition])


async def _next(reader: TopicReader, partition: int) -> list[DeadLetterRecord]:
    found: list[DeadLetterRecord] = []

    def append(_: int, records: Sequence[ConsumerRecord]) -> None:
        found.extend(
            to_dead_letter(DeadLetterId(partition, r.offset), r.timestamp, r.headers, r.value)
            for r in records
        )

    await reader.poll(append)
    return found
