"""The changelog producer on a real Kafka: whole batches, each written once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import MessageSizeTooLargeError

from contract.position import Position
from contract.row import POSITION_HEADER
from processor.changelog.producer import ChangelogProducer
from processor.core.write_batch import (
    MAX_ROW_BYTES,
    NO_HEADERS,
    RECORD_BATCH_BYTES,
    RECORD_OVERHEAD,
    ChangelogRecord,
    RecordBatch,
    Tombstone,
    split,
)
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.processes import freeze
from tobogganing.devstack.cluster import Cluster

MANY = 3_000
"""Records of a kilobyte each: more than one batch, and more than the queue holds."""
LEDGER_BYTES = 40_000
"""More submissions than a ledger has."""


@contextlib.asynccontextmanager
async def running_producer(settings: KafkaSettings) -> AsyncIterator[ChangelogProducer]:
    topics = topics_from(settings)
    await ensure_topics(settings)
    changelog = ChangelogProducer(settings, topics.entity_state.name, topics.dead_letter.name)
    await changelog.start()
    try:
        yield changelog
    finally:
        await changelog.stop()


@pytest.fixture
async def writer(kafka_settings: KafkaSettings) -> AsyncIterator[ChangelogProducer]:
    async with running_producer(kafka_settings) as changelog:
        yield changelog


def many(partition: int) -> list[ChangelogRecord]:
    return [(f"{partition}-{n}".encode(), b"x" * 1000, NO_HEADERS) for n in range(MANY)]


def record_batches(records: dict[int, list[ChangelogRecord]]) -> dict[int, list[RecordBatch]]:
    return {partition: [*split(each)] for partition, each in records.items()}


async def found(settings: KafkaSettings) -> dict[int, list[ConsumerRecord]]:
    """Return all records of the changelog by partition."""
    records: dict[int, list[ConsumerRecord]] = {p: [] for p in range(settings.kafka_partitions)}

    def collect(partition: int, batch: Sequence[ConsumerRecord]) -> None:
        records[partition].extend(batch)

    async with TopicReader(settings, topics_from(settings).entity_state.name, records) as reader:
        await reader.read_to_end(collect, {})
    return records


async def test_each_record_has_the_offset_in_the_result(
    writer: ChangelogProducer, kafka_settings: KafkaSettings
) -> None:
    records = {p: many(p) for p in range(kafka_settings.kafka_partitions)}
    written = await writer.write(record_batches(records))
    for partition, there in (await found(kafka_settings)).items():
        assert [(each.key, each.value) for each in there] == [r[:2] for r in records[partition]]
        spans = written[partition].offsets
        assert len(spans) > 1
        assert [o for start, end in spans for o in range(start, end)] == [r.offset for r in there]
        assert written[partition].appended_ms == max(each.timestamp for each in there)


async def test_a_batch_resent_to_a_frozen_broker_is_written_once(
    own_kafka: Cluster, broken: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    process = own_kafka.brokers[0].process
    assert process is not None
    async with running_producer(broken) as writer:
        records = {p: many(p) for p in range(broken.kafka_partitions)}
        await writer.write({p: [[(b"first", b"", NO_HEADERS)]] for p in records})
        freeze(process.pid)
        try:
            writing = asyncio.create_task(writer.write(record_batches(records)))
            async with asyncio.timeout(30):
                # until the first requests time out
                while "RequestTimedOutError" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        async with asyncio.timeout(60):
            await writing
    for partition, there in (await found(broken)).items():
        keys = [b"first", *(key for key, _, _ in records[partition])]
        assert [each.key for each in there] == keys


async def test_a_tombstone_has_its_position_in_a_header(
    writer: ChangelogProducer, kafka_settings: KafkaSettings
) -> None:
    tombstone = Tombstone(Position(5, 7))
    written = await writer.write({1: [[(b"client:a", None, tombstone.headers)]], 2: []})
    [record] = (await found(kafka_settings))[1]
    assert (record.key, record.value) == (b"client:a", None)
    assert dict(record.headers) == {POSITION_HEADER: b"5:7"}
    assert written[2].offsets == []


async def test_a_record_that_no_broker_accepts_is_an_error(writer: ChangelogProducer) -> None:
    with pytest.raises(MessageSizeTooLargeError):
        await writer.write({0: [[(b"client:a", b"x" * 2_000_000, NO_HEADERS)]]})


@pytest.mark.parametrize("size", [0, 500, MAX_ROW_BYTES])
async def test_the_largest_record_batch_with_its_ledger_is_one_batch(
    writer: ChangelogProducer, kafka_settings: KafkaSettings, size: int
) -> None:
    """With many small rows, whose overhead is largest, and with few large ones."""
    count = (RECORD_BATCH_BYTES + size) // (size + len(b"client:000000") + RECORD_OVERHEAD)
    records = [(b"client:%06d" % n, b"x" * size, NO_HEADERS) for n in range(count)]
    first, *_ = split(records)
    ledger = (b"ledger:0", b"x" * LEDGER_BYTES, NO_HEADERS)
    written = await writer.write({0: [[*first, ledger]]})
    assert len(written[0].offsets) == 1
    there = (await found(kafka_settings))[0]
    assert [each.key for each in there] == [key for key, _, _ in [*first, ledger]]
    assert len({each.timestamp for each in there}) == 1
