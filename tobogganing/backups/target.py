"""The installation that a backup is restored into, as it is before."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.row import RowError, decode_entity_row, is_ledger_key
from contract.topics import processor_group
from service.kafka import administration, members_of, topics_of
from service.reader import TopicReader
from service.settings import KafkaSettings
from tobogganing.local.errors import LocalError

PATIENCE = 30.0
"""Seconds that a broker gets to find a group's coordinator."""


class Found(NamedTuple):
    """What is in `entity-state` before."""

    generations_end: int
    """One more than the highest generation of a row."""
    has_ledger: bool


async def look(settings: KafkaSettings) -> Found:
    """
    Raises:
        KafkaError: Kafka does not answer.
    """
    highest, has_ledger = -1, False

    def take(_: int, records: Sequence[ConsumerRecord]) -> None:
        nonlocal highest, has_ledger
        for record in records:
            if is_ledger_key(record.key or b""):
                has_ledger = True
            elif record.value is not None:
                with contextlib.suppress(RowError):  # whoever begins it anew asks the registry
                    highest = max(highest, decode_entity_row(record.value).generation)

    topic, partitions = topics_of(settings).entity_state.name, range(settings.kafka_partitions)
    async with TopicReader(settings, topic, partitions) as reader:
        await reader.read_to_end(take, {})
    return Found(highest + 1, has_ledger)


async def require_no_processor(settings: KafkaSettings, found: Found) -> None:
    """
    Raises:
        LocalError: one runs, or has been here: it would remove rows that are written beside it.
    """
    group = processor_group(settings.kafka_topic_prefix)
    if await _members(settings, group):
        raise LocalError(f"a processor of {group} runs: rows are restored before any is started")
    if found.has_ledger:
        raise LocalError(
            f"a processor has been at work under {settings.kafka_topic_prefix} already: restore "
            "the rows under another KAFKA_TOPIC_PREFIX, or the registry alone with --registry"
        )


async def _members(settings: KafkaSettings, group: str) -> int:
    """Members of a consumer group now."""
    deadline = time.monotonic() + PATIENCE
    async with administration(settings) as admin:
        while True:
            try:
                return await members_of(admin, group)
            except KafkaError:  # a fresh broker has no coordinator at first
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)
