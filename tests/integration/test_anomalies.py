"""Anomalies and lag on a real Kafka: counted, written to their topic, and exported."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.anomaly import Reason, decode_anomaly
from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_frame
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.processes import POLL, Service
from tests.integration.workers import NEVER_LATE, a_worker, running, settled

KEY = entity_key("client", "a")


@pytest.fixture
async def producer(kafka_settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    await ensure_topics(kafka_settings)
    options = client_options(kafka_settings)
    async with AIOKafkaProducer(**options, acks="all", enable_idempotence=True) as producer:
        yield producer


async def report(producer: AIOKafkaProducer, settings: KafkaSettings, sent: int) -> None:
    """Submit a report of the client with this number of bytes sent and an hour of uptime."""
    metrics: dict[str, int | float] = {"bytes_sent": sent, "connection_uptime": 3600.0}
    frame = encode_frame(NEVER_LATE, [Submission("client", "a", 1, metrics=metrics)])
    partition = partition_of(KEY, settings.kafka_partitions)
    await producer.send_and_wait(topics_from(settings).submissions.name, frame, partition=partition)


async def metric(service: Service, sample: str) -> float:
    """Return the value of a sample, the sum over labels that are not named."""
    text = (await service.scrape()).text
    pattern = rf"^{re.escape(sample)}(?:\{{.*\}})? (\S+)$"
    values = [float(value) for value in re.findall(pattern, text, re.MULTILINE)]
    return sum(values) if values else float("nan")


async def until(service: Service, sample: str, value: float) -> None:
    """Wait until a sample has this value."""
    found = float("nan")
    try:
        async with asyncio.timeout(30):
            while found != value:
                await asyncio.sleep(POLL)
                found = await metric(service, sample)
    except TimeoutError:
        raise AssertionError(f"{sample} is {found}, not {value}") from None


async def test_an_anomaly_is_counted_and_written(
    kafka_settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    topic = topics_from(kafka_settings).anomalies.name
    told: list[ConsumerRecord] = []

    def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
        told.extend(records)

    worker = a_worker(kafka_settings, "w", tmp_path)
    async with running(worker):
        for sent in (1000, 10, 20):
            await report(producer, kafka_settings, sent)
        sample = 'tobogganing_processor_anomalies_total{kind="client",reason="backwards"}'
        await until(worker, sample, 1)
        async with (
            asyncio.timeout(30),
            TopicReader(kafka_settings, topic, range(kafka_settings.kafka_partitions)) as reader,
        ):
            reader.seek(await reader.beginning_offsets())
            while not told:
                await reader.poll(collect)
        # The three may arrive in several batches; the last one has no anomaly to wait for.
        await until(worker, "tobogganing_processor_batch_submissions_sum", 3)
        await until(worker, "tobogganing_processor_settled", 1)
        assert await metric(worker, "tobogganing_processor_dropped_anomalies_total") == 0
        assert await metric(worker, "tobogganing_processor_heartbeat_age_seconds") < 8
    (record,) = told
    anomaly = decode_anomaly(record.value)
    assert (record.key, record.partition) == (KEY, partition_of(KEY, 4))
    assert (anomaly.kind, anomaly.id, anomaly.reason) == ("client", "a", Reason.BACKWARDS)
    assert (anomaly.partition, anomaly.offset, anomaly.index) == (record.partition, 1, 0)
    assert anomaly.detail == "bytes_sent fell from 1000 to 10 at an uptime of 3600 s"
    assert worker.faults() == []


async def test_lag_grows_without_a_processor_and_disappears_with_one(
    kafka_settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    lag = "tobogganing_pipeline_lag_records"
    async with Service("exporter", kafka_settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        await until(exporter, lag, 0)
        for sent in range(3):
            await report(producer, kafka_settings, sent)
        await until(exporter, lag, 3)
        async with running(a_worker(kafka_settings, "w", tmp_path)):
            await settled(kafka_settings)
            await until(exporter, lag, 0)
        text = (await exporter.http.get("/-/metrics", headers=exporter.authorized)).text
        assert re.search(r"^tobogganing_exporter_row_delay_seconds_count [1-9]", text, re.MULTILINE)
