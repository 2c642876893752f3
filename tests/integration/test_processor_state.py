"""The worker's state on a real Kafka: retention, zombies, invalid records."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_frame
from contract.row import EntityRow, encode_row
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.workers import NEVER_LATE, Found, a_worker, running, settled
from tobogganing.dead_letters.dead_letter import DeadLetterId, to_dead_letter


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await ensure_topics(kafka_settings)
    return kafka_settings


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


async def test_an_owner_repairs_the_writes_of_a_zombie(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """An idle one, a busy one, and one that was down."""
    other = neighbour(settings, "a")
    keys = {place(settings, name)[0] for name in ("a", other)}
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await submit(producer, settings, "a", 1)
        await submit(producer, settings, "a", 2)
        await settled(settings)
        await write_row(producer, settings, "a", offset=0)
        await write_row(producer, settings, other, offset=0)
        await until_last_rows_are(settings, {place(settings, "a")[0]})

        await write_row(producer, settings, "a", offset=0)
        await submit(producer, settings, other, 1)
        await until_last_rows_are(settings, keys)
    await write_row(producer, settings, "a", offset=0)
    async with running(worker):
        await until_last_rows_are(settings, keys)
    assert worker.faults() == []


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
    """One record is small when compressed, and larger than a record may be otherwise. Its letter is
    whole: retention deletes the original first."""
    topics = topics_from(settings)
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await producer.send_and_wait(topics.submissions.name, b"rubbish", partition=2)
        await producer.send_and_wait(topics.submissions.name, b'{"version":9}', partition=2)
        await producer.send_and_wait(topics.submissions.name, None, key=b"k", partition=2)
        async with AIOKafkaProducer(
            **client_options(settings), compression_type="gzip", max_request_size=8_000_000
        ) as foreign:
            await foreign.send_and_wait(topics.submissions.name, b"x" * 3_000_000, partition=2)
        await settled(settings)
    assert worker.faults() == []
    letters: list[ConsumerRecord] = []
    async with TopicReader(settings, topics.dead_letter.name, [2]) as reader:
        await reader.read_to_end(lambda _, records: letters.extend(records), {})
    *small, huge = letters
    assert [letter.value for letter in small] == [b"rubbish", b'{"version":9}', b""]
    shown = to_dead_letter(DeadLetterId(2, 3), huge.timestamp, huge.headers, huge.value)
    assert shown.value == b"x" * 3_000_000
    assert "kept" not in shown.document()
    headers = [dict(letter.headers) for letter in letters]
    assert b"not a frame" in headers[0]["reason"]
    assert b"version 9" in headers[1]["reason"]
    assert [header["offset"] for header in headers] == [b"0", b"1", b"2", b"3"]
    ledger = (await Found.of(settings)).ledgers[2]
    assert (ledger.read, ledger.dead_lettered, ledger.applied) == (4, 4, 0)
