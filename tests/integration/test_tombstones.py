"""Readers that were offline while Kafka removed a tombstone read their topic from the beginning."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contract.position import Position
from contract.topics import Topic
from processor.core.partition_state import PartitionState
from processor.table.store import PartitionedStore
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics
from tests.integration.gateways import ADMIN, gateway, registered, submit
from tests.integration.processes import Service, freeze, row_writer
from tests.waiting import eventually

REMOVED, OTHER = b"client:c-1", b"client:c-2"
KEPT = 10
"""Seconds that tombstones are retained; a reader has half of that."""
COMPACTED_AT_ONCE = {
    "delete.retention.ms": str(KEPT * 1000),
    "min.compaction.lag.ms": "0",
    "min.cleanable.dirty.ratio": "0",
    "segment.ms": "100",
}


async def test_no_reader_keeps_what_was_removed_while_it_was_offline(
    compacting: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """An exporter ends; a gateway and the state of a worker read the topic again."""
    settings = compacting
    topics = await ensure_topics(settings)
    both = topics.entity_state, topics.registry
    exporter = Service("exporter", settings, tmp_path)
    front = gateway(settings, tmp_path, signing_keys)
    store = PartitionedStore.__new__(PartitionedStore)
    store.settings, store.changelog, store.records_read = settings, topics.entity_state.name, 0
    store.partitions = {0: PartitionState(0)}
    async with (
        row_writer(settings) as rows,
        AIOKafkaProducer(**client_options(settings)) as producer,
        exporter,
        front,
    ):
        await exporter.wait_until_ready()
        await front.wait_until_ready()
        for topic in both:  # no service would start on such topics
            await alter(settings, topic, COMPACTED_AT_ONCE)
        await rows.row(REMOVED.decode(), 0, labels={"name": "gone"}, metrics={"bytes_sent": 1})
        await rows.ledger(0, 0, read=1, applied=1)
        assert 'client_id="c-1"' in (await exporter.scrape("0-0-0")).text
        await store.load()
        loaded = store.partitions[0]
        assert REMOVED in loaded.rows
        gone, other = await registered(front, "c-1"), await registered(front, "c-2")
        record = (await values_of(settings, topics.registry))[OTHER]

        for service in (exporter, front):
            await asyncio.to_thread(freeze, service.pid)
        await rows.tombstone(REMOVED.decode(), Position(0, 0))
        await producer.send_and_wait(topics.registry.name, None, key=REMOVED, partition=0)
        offset = 0
        async with asyncio.timeout(120):
            for topic in both:
                while REMOVED in await values_of(settings, topic):
                    offset += 1  # the last record of a topic is never compacted
                    await rows.row(OTHER.decode(), offset, metrics={"bytes_sent": 1})
                    await producer.send_and_wait(
                        topics.registry.name, record, key=OTHER, partition=0
                    )
        await rows.ledger(0, offset, read=offset + 1, applied=offset + 1)
        for service in (exporter, front):
            service.send(signal.SIGCONT)

        assert await exporter.ended(10) == 70
        assert "Kafka keeps tombstones for 10 s" in exporter.faults()[-1]

        async def is_forgotten() -> bool:
            found = await front.http.get("/api/v1/clients/c-1", headers=ADMIN)
            return found.status_code == 404

        await eventually(is_forgotten)
        await front.wait_until_ready()
        assert "Kafka keeps tombstones for 10 s" in front.log()
        assert (await submit(front, "c-1", gone, 1)).status_code == 401
        assert (await submit(front, "c-2", other, 1)).status_code == 200
        assert front.faults() == [], "it did not end"

        await store.load()
        reloaded = store.partitions[0]
        assert reloaded is not loaded
        assert reloaded.rows.keys() == {OTHER}
        await rows.row(OTHER.decode(), offset + 1, metrics={"bytes_sent": 2})
        await store.load()
        assert store.partitions[0] is reloaded, "only new records were read"

        for topic in both:
            await alter(settings, topic, {})
        await exporter.start()
        await exporter.wait_until_ready()
        shown = (await exporter.scrape(f"0-{offset}-0")).text
        assert 'client_id="c-2"' in shown
        assert 'client_id="c-1"' not in shown


async def alter(settings: KafkaSettings, topic: Topic, changed: Mapping[str, str]) -> None:
    """Give a topic its declared settings, except those that are changed."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, {**topic.settings, **changed})
    async with admin_client(settings) as admin:
        await admin.alter_configs([resource])


async def values_of(settings: KafkaSettings, topic: Topic) -> dict[bytes, bytes | None]:
    """Return the last value of each key that the topic still has."""
    found: dict[bytes, bytes | None] = {}

    def take(_: int, records: Sequence[ConsumerRecord]) -> None:
        found.update((record.key, record.value) for record in records)

    async with TopicReader(settings, topic.name, [0]) as reader:
        await reader.read_to_end(take, {})
    return found
