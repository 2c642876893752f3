"""The installation that a backup is restored into, as it is before."""

import asyncio
import time
from collections.abc import Sequence

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.row import is_ledger_key
from contract.topics import processor_group
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, group_member_count
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tobogganing.errors import LocalError

PATIENCE = 30.0
"""Seconds that a broker gets to find a group's coordinator."""


async def require_no_processor(settings: KafkaSettings) -> None:
    """
    Raises:
        LocalError: one runs, or has been here: it would remove rows that are written beside it.
        KafkaError: Kafka does not answer.
    """
    group = processor_group(settings.kafka_topic_prefix)
    if await _members(settings, group):
        raise LocalError(f"a processor of {group} runs: rows are restored before any is started")
    if await _has_ledger(settings):
        raise LocalError(
            f"a processor has been at work under {settings.kafka_topic_prefix} already: restore "
            "the rows under another KAFKA_TOPIC_PREFIX, or the registry alone with --registry"
        )


async def _has_ledger(settings: KafkaSettings) -> bool:
    found = False

    def take(_: int, records: Sequence[ConsumerRecord]) -> None:
        nonlocal found
        found = found or any(is_ledger_key(record.key or b"") for record in records)

    topic, partitions = topics_from(settings).entity_state.name, range(settings.kafka_partitions)
    async with TopicReader(settings, topic, partitions) as reader:
        await reader.read_to_end(take, {})
    return found


async def _members(settings: KafkaSettings, group: str) -> int:
    """Members of a consumer group now."""
    deadline = time.monotonic() + PATIENCE
    async with admin_client(settings) as admin:
        while True:
            try:
                return await group_member_count(admin, group)
            except KafkaError:  # a fresh broker has no coordinator at first
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)
