"""A topic reader that also knows what identifies a log: topic id, leader epochs, single records."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from service.kafka_compat import EpochEnd, TopicDetails, describe_topic, epoch_ends
from service.reader import TopicReader

PATIENCE = 6.0
"""Seconds that a partition gets to have a leader which answers."""
RETRY_INTERVAL = 0.1

Result = TypeVar("Result")


class SourceReader(TopicReader):
    """Also asks for what tells one history of a log from another."""

    async def describe(self) -> TopicDetails:
        """The topic's id, and the leaders of all its partitions.

        Raises:
            KafkaError: no broker answers, or there is no such topic.
        """
        return await _patiently(lambda: describe_topic(self._consumer._client, self._topic))

    async def epoch_ends(
        self, details: TopicDetails, epochs: Mapping[int, int]
    ) -> dict[int, EpochEnd]:
        """Where the history with each partition's leader epoch ends.

        Raises:
            KafkaError: a partition has no leader, or its leader does not answer.
        """
        known = details

        async def ask() -> dict[int, EpochEnd]:
            nonlocal known
            try:
                return await epoch_ends(self._consumer._client, self._topic, known.leaders, epochs)
            except KafkaError:
                known = await describe_topic(self._consumer._client, self._topic)
                raise

        return await _patiently(ask)

    @property
    def _topic(self) -> str:
        return str(next(iter(self._partitions.values())).topic)


async def _patiently(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask again while a leader is elected.

    Raises:
        KafkaError: there is no such topic, or the patience is over.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await ask()
        except UnknownTopicOrPartitionError:
            raise
        except KafkaError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_INTERVAL)
