"""Reads from Kafka what explains a gap: see gap_check.py."""

import asyncio

from aiokafka.errors import OffsetOutOfRangeError

from processor.source.gap_check import Ahead, LookAhead
from service.config.settings import KafkaSettings
from service.kafka.source_reader import SourceReader

TIMEOUT = 9.0
"""Seconds in which Kafka must respond."""


def look_ahead_in(settings: KafkaSettings, topic: str) -> LookAhead:
    """Return the function that looks ahead in the partitions of a topic."""

    async def look_ahead(partition: int, offset: int) -> Ahead:
        async with (
            asyncio.timeout(TIMEOUT),
            SourceReader(settings, topic, [partition]) as reader,
        ):
            while True:
                before = await reader.describe()
                first, end = await reader.span(partition)
                try:
                    record = await reader.record_from(partition, max(first, offset), end)
                except OffsetOutOfRangeError:
                    continue  # retention has just deleted it
                after = await reader.describe()
                leader = after.leader(partition)
                if (after.id, leader) == (before.id, before.leader(partition)):
                    found = None if record is None else record.offset
                    return Ahead(first, found, end, after.id, leader.epoch)

    return look_ahead
