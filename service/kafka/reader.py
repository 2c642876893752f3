"""Topic readers: partitions of a topic, read without a consumer group."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat import ended_tasks
from service.kafka.clients import client_options, stop_consumer
from service.kafka.kafka_compat import patch_record_batches
from service.kafka.topic_history import (
    Marker,
)

patch_record_batches()

Apply = Callable[[int, Sequence[ConsumerRecord]], None]
"""Takes a partition and its next records, in order."""

_FETCH_BYTES = 1024 * 1024
"""Bytes that a partition brings at a time. Records of more would soon be garbage too, but of what a
process once had it keeps the memory."""
_POLL_MS = 200


class ReaderError(Exception):
    """A reader does not read any more."""


class TopicOffsets:
    """Asks where partitions of a topic begin and end: an async context manager.

    It has a connection of its own. On a reader's the question would wait for the fetch before it,
    which the broker holds for up to half a second until there is something to read.
    """

    def __init__(self, settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> None:
        self._partitions = {number: TopicPartition(topic, number) for number in partitions}
        self.settings = settings

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            **client_options(self.settings), enable_auto_commit=False, **self._options()
        )
        try:
            await self._consumer.start()
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await stop_consumer(self._consumer)

    async def beginning_offsets(self) -> dict[int, int]:
        """First offset that exists of each partition."""
        offsets = await self._consumer.beginning_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def end_offsets(self) -> dict[int, int]:
        """Offset after the last acknowledged record of each partition, as of now or later."""
        offsets = await self._consumer.end_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def first_since(self, times: Mapping[int, int]) -> dict[int, Marker | None]:
        """First record of each partition that was appended at its time (milliseconds) or later."""
        wanted = {self._partitions[p]: max(0, time) for p, time in times.items()}
        found = await self._consumer.offsets_for_times(wanted) if wanted else {}
        return {
            tp.partition: None if first is None else Marker(first.offset, first.timestamp)
            for tp, first in found.items()
        }

    def _options(self) -> dict[str, Any]:
        """What the consumer is made with besides."""
        return {}


class TopicReader(TopicOffsets):
    """Reads partitions of a topic, outside any group."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._consumer.assign(list(self._partitions.values()))
        return self

    async def offset_at(self, partition: int, time: int) -> int | None:
        """First offset appended at `time` (milliseconds) or later; None if there is none."""
        found = (await self.first_since({partition: time}))[partition]
        return None if found is None else found.offset

    def seek(self, starts: Mapping[int, int]) -> None:
        """Continue each partition at its offset."""
        for partition, offset in starts.items():
            self._consumer.seek(self._partitions[partition], offset)

    async def position(self, partition: int) -> int:
        """Offset of the next record to be read (past those that compaction removed)."""
        position: int = await self._consumer.position(self._partitions[partition])
        return position

    async def poll(self, apply: Apply, partitions: Iterable[int] | None = None) -> None:
        """Hand the next records to `apply`; returns empty-handed after 200 ms without any.

        Raises:
            ReaderError: nothing will ever come, as a background task of the consumer has ended.
        """
        for task in ended_tasks(self._consumer):
            raise ReaderError(f"the {task.name} of a reader has ended: {task.error!r}")
        wanted = [self._partitions[number] for number in partitions or self._partitions]
        batches = await self._consumer.getmany(*wanted, timeout_ms=_POLL_MS)
        for tp, records in batches.items():
            apply(tp.partition, records)

    async def record_from(self, partition: int, offset: int, end: int) -> ConsumerRecord | None:
        """The first record at `offset` or after it, before `end`; None where there is none.

        A transaction's marker is no record.

        Raises:
            OffsetOutOfRangeError: retention has just deleted the offset.
            KafkaError: Kafka does not answer.
        """
        found: list[ConsumerRecord] = []

        def take(_: int, records: Sequence[ConsumerRecord]) -> None:
            found.extend(records[:1])

        self.seek({partition: offset})
        while not found and await self.position(partition) < end:
            await self.poll(take, [partition])
        return found[0] if found and found[0].offset < end else None

    async def read_to_end(self, apply: Apply, starts: Mapping[int, int]) -> dict[int, int]:
        """Read from `starts` up to where each partition ends now; return those ends.

        A start before the first existing offset counts as that offset.
        """
        beginnings, ends = await asyncio.gather(self.beginning_offsets(), self.end_offsets())
        self.seek({p: max(beginnings[p], starts.get(p, 0)) for p in self._partitions})
        unread = {p for p in self._partitions if await self.position(p) < ends[p]}
        while unread:
            await self.poll(apply, unread)
            unread = {p for p in unread if await self.position(p) < ends[p]}
        return ends

    def _options(self) -> dict[str, Any]:
        return {
            # An offset that no longer exists means that the log is another one than we read.
            "auto_offset_reset": "none",
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": 500,
        }
