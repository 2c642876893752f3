"""A worker that was offline while Kafka removed a tombstone reloads its partition."""

import asyncio
from collections.abc import Sequence

from aiokafka import ConsumerRecord
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contract.position import Position
from processor.core.partition_state import PartitionState
from processor.table.store import PartitionedStore
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.processes import row_writer
from tests.integration.test_tombstones import COMPACTED_AT_ONCE

EXPIRED, OTHER = "client:c-1", "client:c-2"


async def test_a_state_that_missed_a_tombstone_keeps_no_expired_entity(
    compacting: KafkaSettings,
) -> None:
    settings = compacting
    await ensure_topics(settings)
    topic = topics_from(settings).entity_state
    values = topic.settings | COMPACTED_AT_ONCE
    store = PartitionedStore.__new__(PartitionedStore)
    store.settings, store.changelog, store.records_read = settings, topic.name, 0
    store.partitions = {0: PartitionState(0)}
    async with row_writer(settings) as rows:
        async with admin_client(settings) as admin:  # no service would start on such a topic
            resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, values)
            await admin.alter_configs([resource])
        await rows.row(EXPIRED, 0, metrics={"bytes_sent": 1})
        await store.load()
        first = store.partitions[0]
        assert EXPIRED.encode() in first.rows

        # Another worker owns the partition, the entity expires, and Kafka removes the tombstone.
        await rows.tombstone(EXPIRED, Position(0, 0))
        async with asyncio.timeout(120):
            offset = 0
            while EXPIRED.encode() in await keys(settings, topic.name):
                offset += 1  # the last record is never compacted
                await rows.row(OTHER, offset, metrics={"bytes_sent": 1})

        await store.load()
        second = store.partitions[0]
        assert second is not first
        assert second.rows.keys() == {OTHER.encode()}
        await rows.row(OTHER, offset + 1, metrics={"bytes_sent": 2})
        await store.load()
        assert store.partitions[0] is second, "only new records were read"


async def keys(settings: KafkaSettings, topic: str) -> set[bytes]:
    """Return the keys of all records in the topic."""
    found: set[bytes] = set()

    def take(_: int, records: Sequence[ConsumerRecord]) -> None:
        found.update(record.key or b"" for record in records)

    async with TopicReader(settings, topic, [0]) as reader:
        await reader.read_to_end(take, {})
    return found
