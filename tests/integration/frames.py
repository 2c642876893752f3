"""Writes frames as a gateway does, to chosen partitions; deletes records."""

import contextlib
from collections.abc import AsyncIterator, Iterable

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import RecordMetadata

from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_frame
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.topics import ensure_topics, topics_from

NEVER_LATE = 2**53

PARTITIONS = 2
"""Number of partitions of the fixture `settings`."""


def ids_of(partition: int, partitions: int, count: int) -> list[str]:
    """Return ids of clients in one partition."""
    names = (f"c-{number}" for number in range(1_000_000))
    found = (id for id in names if partition_of(entity_key("client", id), partitions) == partition)
    return [next(found) for _ in range(count)]


def client(
    id: str, incarnation: int = 1, timestamp: float | None = None, **metrics: int
) -> Submission:
    return Submission("client", id, incarnation, metrics={**metrics}, timestamp=timestamp)


class FrameWriter:
    """Writes records to the submissions topic."""

    def __init__(self, settings: KafkaSettings, producer: AIOKafkaProducer) -> None:
        self._topic = topics_from(settings).submissions.name
        self._producer = producer

    async def frame(
        self, partition: int, *submissions: Submission, answer_by: int = NEVER_LATE
    ) -> int:
        """Write a frame; return its offset."""
        return await self.raw(partition, encode_frame(answer_by, submissions))

    async def appended(self, partition: int, *submissions: Submission) -> RecordMetadata:
        """Write a frame; return its partition, offset and append time."""
        return await self._producer.send_and_wait(
            self._topic, encode_frame(NEVER_LATE, submissions), partition=partition
        )

    async def raw(self, partition: int, value: bytes | None) -> int:
        """Write any value; return its offset."""
        key = b"none" if value is None else None  # a producer needs a key or a value
        answer = await self._producer.send_and_wait(
            self._topic, value, key=key, partition=partition
        )
        return int(answer.offset)

    async def raw_all(self, partition: int, values: Iterable[bytes]) -> None:
        """Write many records without waiting for each."""
        for value in values:
            await self._producer.send(self._topic, value, partition=partition)
        await self._producer.flush()


@contextlib.asynccontextmanager
async def frame_writer(settings: KafkaSettings) -> AsyncIterator[FrameWriter]:
    """Create the topics and a writer to them."""
    await ensure_topics(settings)
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        yield FrameWriter(settings, producer)
    finally:
        await producer.stop()


async def delete_records(
    settings: KafkaSettings, topic: str, partition: int, before: int = -1
) -> None:
    """Delete a partition's records before an offset, as retention does; by default all."""
    async with admin_client(settings) as admin:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})
