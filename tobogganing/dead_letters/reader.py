"""The dead-letter topic: read, looked through, deleted from."""

from collections.abc import AsyncIterator, Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tobogganing.dead_letters.dead_letter import (
    DeadLetterFilter,
    DeadLetterId,
    DeadLetterRecord,
    to_dead_letter,
)
from tobogganing.errors import LocalError


async def read_dead_letters(
    settings: KafkaSettings, wanted: DeadLetterFilter
) -> AsyncIterator[DeadLetterRecord]:
    """Yield the letters that are there now, partition by partition, in bounded memory.

    Raises:
        LocalError: there is no such partition.
        KafkaError: Kafka does not answer.
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
    """Read one letter.

    Raises:
        LocalError: it is not there.
        KafkaError: Kafka does not answer.
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
    raise LocalError(f"there is no dead letter {id}: it was never there, was purged, or is too old")


async def offsets_before(settings: KafkaSettings, time: int | None) -> dict[int, tuple[int, int]]:
    """First offset and the one up to which to purge what was written before `time`, or all.

    Raises:
        KafkaError: Kafka does not answer.
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
    """Delete what is before an offset of each partition, for good.

    Raises:
        KafkaError: Kafka does not answer, or refuses.
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

    def take(partition: int, records: Sequence[ConsumerRecord]) -> None:
        found.extend(
            to_dead_letter(DeadLetterId(partition, r.offset), r.timestamp, r.headers, r.value)
            for r in records
        )

    await reader.poll(take)
    return found
