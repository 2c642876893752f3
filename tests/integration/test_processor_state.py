"""The worker's state on a real Kafka: retention, zombies, invalid records, deleted records."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.frame import Submission, encode_frame, entity_key, partition_of
from contract.row import EntityRow, encode_row
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.frames import delete_records
from tests.integration.workers import NEVER_LATE, Found, a_worker, running, settled
from tests.shared_kafka import SharedKafka


@pytest.fixture
async def settings(kafka: SharedKafka, topic_prefix: str) -> KafkaSettings:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )
    await ensure_topics(settings)
    return settings


@pytest.fixture
async def producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    yield producer
    await producer.stop()


def place(settings: KafkaSettings, name: str) -> tuple[bytes, int]:
    key = entity_key("client", name)
    return key, partition_of(key, settings.kafka_partitions)


def neighbour(settings: KafkaSettings, name: str) -> str:
    """Return the name of another entity in the same partition."""
    partition = place(settings, name)[1]
    return next(other for other in map(str, range(100)) if place(settings, other)[1] == partition)


async def submit(producer: AIOKafkaProducer, settings: KafkaSettings, name: str, value: int) -> int:
    """Send one submission as a gateway would; return its partition."""
    _, partition = place(settings, name)
    frame = encode_frame(NEVER_LATE, [Submission("client", name, 1, metrics={"n": value})])
    await producer.send_and_wait(topics_from(settings).submissions.name, frame, partition=partition)
    return partition


async def write_row(
    producer: AIOKafkaProducer, settings: KafkaSettings, name: str, offset: int
) -> None:
    """Write a row as a zombie would."""
    key, partition = place(settings, name)
    row = EntityRow(1, offset, 0, 1, 0, 0.0, metrics={"zombie": 1})
    await producer.send_and_wait(
        topics_from(settings).entity_state.name, encode_row(row), key=key, partition=partition
    )


async def until_last_rows_are(settings: KafkaSettings, keys: set[bytes]) -> None:
    """Wait until compaction would keep rows of exactly these keys, and none of a zombie."""
    async with asyncio.timeout(30):
        while True:
            rows = (await Found.of(settings)).rows
            if rows.keys() == keys and not any(b"zombie" in row for row in rows.values()):
                return
            await asyncio.sleep(0.2)


async def test_an_idle_entity_expires(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    worker = a_worker(
        settings, "w", tmp_path, RETENTION_HOURS="0.001", SWEEP_INTERVAL_SECONDS="0.3"
    )
    async with running(worker):
        await submit(producer, settings, "silent", 1)
        stop = asyncio.Event()

        async def keep_talking() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await submit(producer, settings, "talking", number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.2)

        talking = asyncio.create_task(keep_talking())
        await settled(settings)
        assert place(settings, "silent")[0] in (await Found.of(settings)).rows
        await until_last_rows_are(settings, {place(settings, "talking")[0]})
        stop.set()
        await talking
        await submit(producer, settings, "silent", 2)
        await settled(settings)
        assert place(settings, "silent")[0] in (await Found.of(settings)).rows
    assert worker.faults() == []


async def test_an_idle_owner_repairs_the_writes_of_a_zombie(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await submit(producer, settings, "a", 1)
        await submit(producer, settings, "a", 2)
        await settled(settings)
        await write_row(producer, settings, "a", offset=0)
        await write_row(producer, settings, neighbour(settings, "a"), offset=0)
        await until_last_rows_are(settings, {place(settings, "a")[0]})
    assert worker.faults() == []


async def test_a_busy_owner_repairs_the_writes_of_a_zombie(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    async with running(a_worker(settings, "w", tmp_path)):
        await submit(producer, settings, "a", 1)
        await submit(producer, settings, "a", 2)
        await settled(settings)
        await write_row(producer, settings, "a", offset=0)
        other = neighbour(settings, "a")
        await submit(producer, settings, other, 1)
        await until_last_rows_are(settings, {place(settings, "a")[0], place(settings, other)[0]})


async def test_a_restarted_owner_repairs_the_writes_of_a_zombie(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await submit(producer, settings, "a", 1)
        await submit(producer, settings, "a", 2)
        await settled(settings)
    await write_row(producer, settings, "a", offset=0)
    async with running(worker):
        await until_last_rows_are(settings, {place(settings, "a")[0]})


async def test_a_fenced_owner_ends_itself(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await submit(producer, settings, "a", 1)
        await settled(settings)
        await write_row(producer, settings, "a", offset=10**6)
        assert await worker.ended() == 70
    assert "newer" in worker.faults()[-1]


async def test_invalid_data_is_in_the_dead_letters_with_the_reason(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    topics = topics_from(settings)
    async with running(a_worker(settings, "w", tmp_path)):
        await producer.send_and_wait(topics.submissions.name, b"rubbish", partition=2)
        await producer.send_and_wait(topics.submissions.name, b'{"version":9}', partition=2)
        await producer.send_and_wait(topics.submissions.name, None, key=b"k", partition=2)
        await settled(settings)
    letters: list[ConsumerRecord] = []

    def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
        letters.extend(records)

    async with TopicReader(settings, topics.dead_letter.name, [2]) as reader:
        await reader.read_to_end(collect, {})
    assert [letter.value for letter in letters] == [b"rubbish", b'{"version":9}', b""]
    headers = [dict(letter.headers) for letter in letters]
    assert b"not a frame" in headers[0]["reason"]
    assert b"version 9" in headers[1]["reason"]
    assert [header["offset"] for header in headers] == [b"0", b"1", b"2"]
    ledger = (await Found.of(settings)).ledgers[2]
    assert (ledger.read, ledger.dead_lettered, ledger.applied) == (3, 3, 0)


async def test_records_deleted_unread_are_counted_as_lost(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        partition = await submit(producer, settings, "a", 1)
        await settled(settings)
    for value in range(2, 8):
        await submit(producer, settings, "a", value)
    await delete_records(settings, topics_from(settings).submissions.name, partition, before=4)
    async with running(worker):
        await settled(settings)
    ledger = (await Found.of(settings)).ledgers[partition]
    assert (ledger.lost, ledger.read, ledger.applied) == (3, 4, 4)
    assert worker.faults() == []


async def test_a_huge_compressed_record_is_a_dead_letter_too(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Its compressed size is small, and its size exceeds the limit of a dead letter."""
    topics = topics_from(settings)
    async with AIOKafkaProducer(
        **client_options(settings), compression_type="gzip", max_request_size=8_000_000
    ) as foreign:
        await foreign.send_and_wait(topics.submissions.name, b"x" * 3_000_000, partition=1)
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await settled(settings)
    assert worker.faults() == []
    letters: list[ConsumerRecord] = []
    async with TopicReader(settings, topics.dead_letter.name, [1]) as reader:
        await reader.read_to_end(lambda _, records: letters.extend(records), {})
    [letter] = letters
    assert letter.value == b"x" * len(letter.value)
    assert dict(letter.headers)["truncated-from"] == b"3000000"
    assert dict(letter.headers)["offset"] == b"0"
