"""Reads partitions of a topic without a consumer group."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.consumer_tasks import ended_tasks
from service.kafka.aiokafka_compat.record_batches import patch_record_batches
from service.kafka.clients import client_options, stop_consumer
from service.kafka.fetch_gathering import FetchGathering
from service.kafka.topic_history import (
    Marker,
)

patch_record_batches()

Apply = Callable[[int, Sequence[ConsumerRecord]], None]
"""Called with a partition and its next records, in order."""

_FETCH_BYTES = 1024 * 1024
"""Maximum bytes per partition and fetch. Larger fetches would increase the memory of the process
for good."""
_MAX_POLL_MS = 1000
"""Maximum time after which a reader looks whether its consumer still runs."""
FETCH_WAIT_MS = 500
"""Maximum milliseconds that a broker delays a fetch without records."""


class ReaderError(Exception):
    """A reader can no longer read."""


class TopicOffsets:
    """Requests first and end offsets of partitions; an async context manager.

    It has its own connection. On a reader's connection, the request would wait for the previous
    fetch, which the broker may delay.
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
        except BaseException:  # also when it is cancelled, its connections must close
            await stop_consumer(self._consumer)
            raise
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await stop_consumer(self._consumer)

    async def beginning_offsets(self) -> dict[int, int]:
        """Return the first existing offset of each partition."""
        offsets = await self._consumer.beginning_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def end_offsets(self) -> dict[int, int]:
        """Return the offset after the last acknowledged record of each partition."""
        offsets = await self._consumer.end_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def first_since(self, times: Mapping[int, int]) -> dict[int, Marker | None]:
        """Return the first record of each partition that was appended at its time (ms) or later."""
        wanted = {self._partitions[p]: max(0, time) for p, time in times.items()}
        found = await self._consumer.offsets_for_times(wanted) if wanted else {}
        return {
            tp.partition: None if first is None else Marker(first.offset, first.timestamp)
            for tp, first in found.items()
        }

    async def offsets_since(self, time: int) -> dict[int, int]:
        """Return the offset of each partition's first record that was appended at a time (ms) or
        later; without one, its end, so that no record appended since then is left out."""
        ends = await self.end_offsets()
        first = await self.first_since(dict.fromkeys(self._partitions, time))
        return {
            p: end if (found := first.get(p)) is None else found.offset for p, end in ends.items()
        }

    def _options(self) -> dict[str, Any]:
        """Return further options of the consumer."""
        return {}


class TopicReader(TopicOffsets):
    """Reads partitions of a topic without a consumer group.

    With `gathers`, fetches return more records each under load, tens of milliseconds later.
    `wait_ms` is how long a broker delays a fetch without records; a partition that is sought
    meanwhile waits for the end of that fetch.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: Iterable[int],
        *,
        gathers: bool = False,
        wait_ms: int = FETCH_WAIT_MS,
    ) -> None:
        super().__init__(settings, topic, partitions)
        self._wait_ms = wait_ms
        self._poll_ms = min(wait_ms, _MAX_POLL_MS)
        self._gathering = FetchGathering(wait_ms) if gathers else None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._consumer.assign(list(self._partitions.values()))
        return self

    async def offset_at(self, partition: int, time: int) -> int | None:
        """Return the first offset appended at `time` (milliseconds) or later; None if there is
        none."""
        found = (await self.first_since({partition: time}))[partition]
        return None if found is None else found.offset

    def seek(self, starts: Mapping[int, int]) -> None:
        """Continue each partition at its offset."""
        for partition, offset in starts.items():
            self._consumer.seek(self._partitions[partition], offset)

    async def position(self, partition: int) -> int:
        """Return the offset of the next record to be read, after those that compaction removed."""
        position: int = await self._consumer.position(self._partitions[partition])
        return position

    async def poll(self, apply: Apply, partitions: Iterable[int] | None = None) -> None:
        """Pass the next records to `apply`; return after a while if there are none.

        Raises:
            ReaderError: a background task of the consumer has ended, so nothing will be read.
        """
        for task in ended_tasks(self._consumer):
            raise ReaderError(f"the {task.name} of a reader has ended: {task.error!r}")
        wanted = [self._partitions[number] for number in partitions or self._partitions]
        batches = await self._consumer.getmany(*wanted, timeout_ms=self._poll_ms)
        if self._gathering is not None:
            self._gathering.observe(self._consumer, bool(batches))
        for tp, records in batches.items():
            apply(tp.partition, records)

    async def record_from(self, partition: int, offset: int, end: int) -> ConsumerRecord | None:
        """Return the first record from `offset` on and before `end`; None if there is none.

        Transaction markers do not count as records.

        Raises:
            OffsetOutOfRangeError: retention has deleted the offset.
            KafkaError: Kafka does not respond.
        """
        found: list[ConsumerRecord] = []

        def append_first(_: int, records: Sequence[ConsumerRecord]) -> None:
            found.extend(records[:1])

        self.seek({partition: offset})
        while not found and await self.position(partition) < end:
            await self.poll(append_first, [partition])
        return found[0] if found and found[0].offset < end else None

    async def read_to_end(self, apply: Apply, starts: Mapping[int, int]) -> dict[int, int]:
        """Read from `starts` to the current end of each partition; return the end offsets.

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
            # A missing offset means that the log is not the one that was read.
            "auto_offset_reset": "none",
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": self._wait_ms,
            # Without a group, nothing happens that aiokafka would have to look for more often.
            "consumer_timeout_ms": self._poll_ms,
        }
