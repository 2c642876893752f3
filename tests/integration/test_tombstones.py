"""A tailer that was offline while Kafka removed a tombstone rereads its topic from the start."""

import asyncio
import signal
from pathlib import Path

from aiokafka import ConsumerRecord
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contract.position import Position
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.processes import Service, freeze, row_writer

REMOVED, OTHER = "client:c-1", "client:c-2"
KEPT = 10
"""Seconds that tombstones are retained; a tailer has half of that."""
COMPACTED_AT_ONCE = {
    "delete.retention.ms": str(KEPT * 1000),
    "min.compaction.lag.ms": "0",
    "min.cleanable.dirty.ratio": "0",
    "segment.ms": "100",
}


async def test_an_exporter_that_missed_a_tombstone_shows_no_removed_entity(
    compacting: KafkaSettings, tmp_path: Path
) -> None:
    settings = compacting
    declared = topics_from(settings).entity_state
    topic = declared.name
    exporter = Service("exporter", settings, tmp_path)
    async with row_writer(settings) as rows, exporter:
        await exporter.wait_until_ready()
        await _alter(settings, topic, declared.settings | COMPACTED_AT_ONCE)
        await rows.row(REMOVED, 0, labels={"name": "gone"}, metrics={"bytes_sent": 1})
        await rows.ledger(0, 0, read=1, applied=1)
        assert 'client_id="c-1"' in (await exporter.scrape("0-0-0")).text

        await asyncio.to_thread(freeze, exporter.pid)
        await rows.tombstone(REMOVED, Position(0, 0))
        async with asyncio.timeout(90):
            offset = 0
            while any(record.key == REMOVED.encode() for record in await _all(settings, topic)):
                offset += 1  # the last record is never compacted
                await rows.row(OTHER, offset, metrics={"bytes_sent": 1})
        await rows.ledger(0, offset, read=offset + 1, applied=offset + 1)
        exporter.send(signal.SIGCONT)
        assert await exporter.ended(10) == 70
        assert "Kafka keeps tombstones for 10 s" in exporter.faults()[-1]

        await _alter(settings, topic, declared.settings)
        await exporter.start()
        await exporter.wait_until_ready()
        shown = (await exporter.scrape(f"0-{offset}-0")).text
        assert 'client_id="c-2"' in shown
        assert 'client_id="c-1"' not in shown


async def _alter(settings: KafkaSettings, topic: str, values: dict[str, str]) -> None:
    async with admin_client(settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, values)])


async def _all(settings: KafkaSettings, topic: str) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with TopicReader(settings, topic, [0]) as reader:
        await reader.read_to_end(lambda _, records: found.extend(records), {})
    return found
