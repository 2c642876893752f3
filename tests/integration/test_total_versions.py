"""Programs of the version before totals together with the current ones, on the same topics."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_frame
from contract.row import decode_entity_row
from contract.total import decode_total, is_total_key
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.processes import Service
from tests.integration.versions import before_totals
from tests.integration.workers import NEVER_LATE, Found, a_worker, running, settled

KEY = entity_key("client", "a")


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await ensure_topics(kafka_settings)
    return kafka_settings


async def report(settings: KafkaSettings, *values: int) -> None:
    """Append a report with each value, and wait until the workers have reduced them."""
    partition = partition_of(KEY, settings.kafka_partitions)
    topic = topics_from(settings).submissions.name
    async with AIOKafkaProducer(**client_options(settings)) as producer:
        for value in values:
            submission = Submission("client", "a", 1, {"type": "native"}, {}, {"bytes_sent": value})
            frame = encode_frame(NEVER_LATE, [submission])
            await producer.send_and_wait(topic, frame, partition=partition)
    await settled(settings)


async def totals(settings: KafkaSettings) -> list[int | float]:
    rows = (await Found.of(settings)).rows
    return [decode_total(row).values["bytes_sent"] for k, row in rows.items() if is_total_key(k)]


async def test_an_older_worker_leaves_totals_alone_and_they_never_fall(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    worker, exporter = a_worker(settings, "w", tmp_path), Service("exporter", settings, tmp_path)
    older = exporter.code = before_totals(tmp_path)
    async with running(worker, exporter):
        await report(settings, 1, 11)
        assert await totals(settings) == [10]

        worker.code = older
        await worker.end()
        await worker.start()
        await worker.wait_until_ready()
        await report(settings, 100)
        async with asyncio.timeout(
            30
        ):  # its expiry runs continuously, and does not support this row
            while "rows cannot be decoded" not in worker.log():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert await totals(settings) == [10]

        worker.code = None
        await worker.end()
        await worker.start()
        await worker.wait_until_ready()
        await report(settings, 105)
        assert await totals(settings) == [15]
        row = decode_entity_row((await Found.of(settings)).rows[KEY])
        assert row.metrics == {"bytes_sent": 105}

        async with asyncio.timeout(30):
            while " 105\n" not in (await exporter.scrape()).text:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        own = await exporter.http.get("/-/metrics", headers=exporter.authorized)
        assert "\ntobogganing_exporter_unreadable_entities 1.0\n" in own.text
