"""Which registered entities have no row: they have never reported, or not for long."""

import time

from contract.row import RowError, decode_entity_row
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicOffsets
from service.kafka.topics import topics_from
from tobogganing.backup.topic_snapshot import read_covered_rows
from tobogganing.output import Progress

PATIENCE = 10.0
"""Seconds in which the processors must have read what was in the submissions topic."""


async def reported_keys(settings: KafkaSettings) -> set[bytes]:
    """Return the keys of all entities with a row, as `client:anna`.

    Every submission that was accepted before the call counts. A row that cannot be decoded counts,
    too: its entity has reported.

    Raises:
        LocalError: the processors are not done with the submissions in time.
        KafkaError: Kafka does not respond.
    """
    partitions = range(settings.kafka_partitions)
    topic = topics_from(settings).submissions.name
    async with TopicOffsets(settings, topic, partitions) as source:
        ends = await source.end_offsets()
    deadline = time.monotonic() + PATIENCE
    found: set[bytes] = set()
    with Progress("partitions read", len(partitions)) as progress:
        for partition in partitions:
            state = await read_covered_rows(settings, partition, ends[partition], deadline)
            found |= {key for key, value in state.rows.items() if not _is_removed(value)}
            progress.add(1)
    return found


def _is_removed(value: bytes) -> bool:
    """Whether a row only says that a registration of its id was removed."""
    try:
        return decode_entity_row(value).removed
    except RowError:
        return False
