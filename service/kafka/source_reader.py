"""A topic reader that also reads what identifies a log: topic id, leader epochs, single records."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from service.kafka.aiokafka_compat.consumer import client_of
from service.kafka.aiokafka_compat.leader_epochs import EpochEnd, epoch_ends
from service.kafka.aiokafka_compat.topic_details import TopicDetails, fetch_topic_details
from service.kafka.reader import TopicReader

PATIENCE = 6.0
"""Seconds for which a request is retried until a partition has a responding leader."""
ATTEMPT_TIMEOUT = 2.0
"""Timeout in seconds of one metadata request, which may go to a frozen broker."""
RETRY_INTERVAL = 0.1

Result = TypeVar("Result")
Span = tuple[int, int]
"""First existing offset, and the offset after the last record."""


class SourceReader(TopicReader):
    """Reads records, and the properties that distinguish histories of a log."""

    async def describe(self) -> TopicDetails:
        """Return the topic's id and the leaders of its partitions.

        Raises:
            KafkaError, TimeoutError: no broker responds, or the topic does not exist.
        """
        return await _retry(self._describe)

    async def epoch_ends(
        self, details: TopicDetails, epochs: Mapping[int, int], known: Mapping[int, int] = {}
    ) -> dict[int, EpochEnd]:
        """Return the end offset of a leader epoch for each partition.

        `known` are the newest known leader epochs; a response of an older leader is refused.

        Raises:
            KafkaError, TimeoutError: a partition has no leader, or its leader does not respond.
        """

        async def request() -> dict[int, EpochEnd]:
            nonlocal details
            leaders = {
                partition: leader._replace(epoch=max(leader.epoch, known.get(partition, -1)))
                for partition, leader in details.leaders.items()
            }
            try:
                return await epoch_ends(client_of(self._consumer), self._topic, leaders, epochs)
            except KafkaError:
                details = await self._describe()
                raise

        return await _retry(request)

    async def spans(self, timeout: float) -> dict[int, Span]:
        """Return the span of each partition; omit partitions whose leader does not respond in time.

        Raises:
            KafkaError, TimeoutError: no broker responds, or the topic does not exist.
        """
        details = await self.describe()
        by_node: dict[int, list[TopicPartition]] = {}
        for partition, tp in self._partitions.items():
            leader = details.leader(partition)
            if leader.exists:
                by_node.setdefault(leader.node, []).append(tp)
        found: dict[int, Span] = {}

        async def request(tps: list[TopicPartition]) -> None:
            try:
                async with asyncio.timeout(timeout):
                    ends = await self._consumer.end_offsets(tps)
                    beginnings = await self._consumer.beginning_offsets(tps)
            except (KafkaError, TimeoutError):
                return
            found.update({tp.partition: (beginnings[tp], ends[tp]) for tp in tps})

        await asyncio.gather(*map(request, by_node.values()))
        return found

    async def span(self, partition: int) -> Span:
        """Return the span of a partition.

        Raises:
            KafkaError: its leader does not respond.
        """
        tp = self._partitions[partition]
        beginnings = await self._consumer.beginning_offsets([tp])
        ends = await self._consumer.end_offsets([tp])
        return beginnings[tp], ends[tp]

    async def _describe(self) -> TopicDetails:
        async with asyncio.timeout(ATTEMPT_TIMEOUT):
            return await fetch_topic_details(client_of(self._consumer), self._topic)

    @property
    def _topic(self) -> str:
        return str(next(iter(self._partitions.values())).topic)


async def _retry(request: Callable[[], Awaitable[Result]]) -> Result:
    """Retry while a leader is elected.

    Raises:
        KafkaError, TimeoutError: the topic does not exist, or PATIENCE has elapsed.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await request()
        except UnknownTopicOrPartitionError:
            raise
        except (KafkaError, TimeoutError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_INTERVAL)
