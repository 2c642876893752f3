"""Which entities have reported: they have a row, or evidence says that it has expired."""

import time
from collections.abc import Sequence

from aiokafka import ConsumerRecord

from contract.evidence import EvidenceError, EvidenceReason, decode_evidence
from contract.row import RowError, decode_entity_row
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicOffsets, TopicReader
from service.kafka.topics import topics_from
from tobogganing.backup.topic_snapshot import read_covered_rows
from tobogganing.output import Progress

PATIENCE = 10.0
"""Seconds in which the processors must have read what was in the submissions topic."""


async def reported_keys(settings: KafkaSettings) -> set[bytes]:
    """Return the keys of all entities that have reported, as `client:anna`.

    Every submission that was accepted before the call counts. A row that cannot be decoded counts,
    too, and so does one that expired, for a former registration of the id as well.

    Raises:
        LocalError: the processors did not apply the submissions in time.
        KafkaError: Kafka does not respond.
    """
    partitions = range(settings.kafka_partitions)
    topic = topics_from(settings).submissions.name
    async with TopicOffsets(settings, topic, partitions) as source:
        ends = await source.end_offsets()
    deadline = time.monotonic() + PATIENCE
    found = await _expired_keys(settings)
    with Progress("partitions read", len(partitions)) as progress:
        for partition in partitions:
            state = await read_covered_rows(settings, partition, ends[partition], deadline)
            found |= {key for key, value in state.rows.items() if not _is_removed(value)}
            progress.add(1)
    return found


async def _expired_keys(settings: KafkaSettings) -> set[bytes]:
    """Return the entities whose rows have expired."""
    found: dict[bytes, bytes] = {}

    def take(_: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            found.pop(record.key, None)
            try:
                evidence = decode_evidence(record.key or b"", record.value or b"")
            except EvidenceError:
                continue
            if evidence.reason is EvidenceReason.EXPIRED:
                found[record.key] = evidence.entity

    topic, partitions = topics_from(settings).evidence.name, range(settings.kafka_partitions)
    async with TopicReader(settings, topic, partitions) as reader:
        await reader.read_to_end(take, {})
    return set(found.values())


def _is_removed(value: bytes) -> bool:
    """Whether a row only says that a registration of its id was removed."""
    try:
        return decode_entity_row(value).removed
    except RowError:
        return False
