"""Rows and ledger in one record batch on Kafka: data of older versions, and cut frames."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.frame import Submission, encode_frame
from contract.ledger import decode_ledger_row, is_ledger_key, ledger_key
from contract.row import EntityRow, encode_row
from processor.core.write_batch import RECORD_BATCH_BYTES
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.frames import NEVER_LATE, client, ids_of
from tests.integration.versions import older_version
from tests.integration.workers import Found, a_worker, running, settled

PARTITION = 1
WIDE = 90_000
"""Size in bytes of a label that makes a row large."""
ENTITIES = 25
"""Number of entities with such rows: more than fit a record batch."""


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await ensure_topics(kafka_settings)
    return kafka_settings


@pytest.fixture
async def producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        compression_type="gzip",
        max_request_size=8_000_000,
    )
    await producer.start()
    yield producer
    await producer.stop()


async def write_frame(
    producer: AIOKafkaProducer, settings: KafkaSettings, *submissions: Submission
) -> None:
    topic = topics_from(settings).submissions.name
    frame = encode_frame(NEVER_LATE, submissions)
    await producer.send_and_wait(topic, frame, partition=PARTITION)


async def records_of(settings: KafkaSettings) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    topic = topics_from(settings).entity_state.name
    async with TopicReader(settings, topic, [PARTITION]) as reader:
        await reader.read_to_end(lambda _, records: found.extend(records), {})
    return found


async def test_rows_that_an_older_version_wrote_without_a_ledger_are_counted_once(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """It was killed between its two writes; its ledger has only the fields of its version."""
    a, b = ids_of(PARTITION, settings.kafka_partitions, 2)
    for number in range(3):
        await write_frame(producer, settings, client(a, n=number), client(b, n=number))
    topic = topics_from(settings).entity_state.name

    async def write(key: bytes, value: bytes) -> None:
        await producer.send_and_wait(topic, value, key=key, partition=PARTITION)

    now = time.time()
    row = EntityRow(1, 0, 1, 1, round(now * 1000), now, metrics={"n": 0})
    await write(f"client:{b}".encode(), encode_row(row))
    counts = {"read": 2, "applied": 2, "stale": 0, "late": 0, "dead_lettered": 0, "lost": 0}
    ledger = msgspec.json.encode({"version": 1, "offset": 0, **counts})
    await write(ledger_key(PARTITION), ledger)
    newer = EntityRow(1, 2, 0, 1, round(now * 1000), now, metrics={"n": 2})
    await write(f"client:{a}".encode(), encode_row(newer))

    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await settled(settings)
    found = await Found.of(settings)
    counted = found.ledgers[PARTITION]
    assert (counted.offset, counted.read, counted.applied, counted.stale) == (2, 6, 6, 0)
    rows = [msgspec.json.decode(found.rows[f"client:{id}".encode()]) for id in (a, b)]
    assert [row["metrics"] for row in rows] == [{"n": 2}, {"n": 2}]
    assert worker.faults() == []


async def test_a_frame_whose_rows_exceed_a_record_batch_is_cut(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    ids = ids_of(PARTITION, settings.kafka_partitions, ENTITIES)
    wide = [Submission("client", id, 1, {"x": "y" * WIDE}, metrics={"n": 1}) for id in ids]
    await write_frame(producer, settings, client(ids[0], n=0))
    await write_frame(producer, settings, *wide)
    worker = a_worker(settings, "w", tmp_path)
    async with running(worker):
        await settled(settings)
    found = await Found.of(settings)
    counted = found.ledgers[PARTITION]
    assert (counted.read, counted.applied, counted.cut) == (1 + ENTITIES, 1 + ENTITIES, None)
    assert len(found.rows) == ENTITIES

    records = await records_of(settings)
    ledgers = [decode_ledger_row(each.value) for each in records if is_ledger_key(each.key)]
    cuts = [each.cut.count for each in ledgers if each.cut is not None]
    assert cuts
    assert cuts == sorted(cuts)
    assert all(each.balances for each in ledgers)
    size = 0
    for record in records:
        size = 0 if is_ledger_key(record.key) else size + len(record.value)
        assert size <= RECORD_BATCH_BYTES
    assert worker.faults() == []


async def test_a_worker_continues_within_a_cut_frame(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Its predecessor was killed between two record batches: here, everything after the first
    is cut off."""
    ids = ids_of(PARTITION, settings.kafka_partitions, ENTITIES)
    wide = [Submission("client", id, 1, {"x": "y" * WIDE}, metrics={"n": 1}) for id in ids]
    await write_frame(producer, settings, *wide)
    async with running(a_worker(settings, "w", tmp_path)):
        await settled(settings)
    records = await records_of(settings)
    first = next(n for n, each in enumerate(records) if is_ledger_key(each.key) and _cut(each))

    again = settings.__class__(
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        kafka_topic_prefix=settings.kafka_topic_prefix + "again.",
    )
    await ensure_topics(again)
    await write_frame(producer, again, *wide)
    appended = await _appended(again)
    async with AIOKafkaProducer(**client_options(again), acks="all") as writer:
        for record in records[: first + 1]:
            value = record.value
            if is_ledger_key(record.key):
                value = _as_of(value, appended)
            await writer.send_and_wait(
                topics_from(again).entity_state.name, value, key=record.key, partition=PARTITION
            )
    before = (await Found.of(again)).ledgers[PARTITION]
    assert before.cut is not None
    old = a_worker(again, "old", tmp_path)
    old.code = older_version(tmp_path)
    async with running(old):
        text = (await old.http.get("/metrics", headers=old.authorized)).text
        stopped = f'partition_stopped{{partition="{PARTITION}",reason="ledger"}} 1.0'
        assert stopped in text, "it would count the part again"
        assert (await Found.of(again)).ledgers[PARTITION] == before
    worker = a_worker(again, "w", tmp_path)
    async with running(worker):
        await settled(again)
    found = await Found.of(again)
    counted = found.ledgers[PARTITION]
    assert (counted.read, counted.applied, counted.stale) == (ENTITIES, ENTITIES, 0)
    assert (counted.cut, counted.parted) == (None, 0)
    assert len(found.rows) == ENTITIES
    assert worker.faults() == []


def _cut(record: ConsumerRecord) -> bool:
    return decode_ledger_row(record.value).cut is not None


async def _appended(settings: KafkaSettings) -> int:
    """Return the append time of the only record of the source."""
    found: list[ConsumerRecord] = []
    topic = topics_from(settings).submissions.name
    async with TopicReader(settings, topic, [PARTITION]) as reader:
        await reader.read_to_end(lambda _, records: found.extend(records), {})
    [record] = found
    return int(record.timestamp)


def _as_of(ledger: bytes, appended: int) -> bytes:
    """Return the ledger, with its cut in the record that was appended at that time."""
    document = msgspec.json.decode(ledger)
    if document["cut"] is not None:
        document["cut"]["appended"] = appended
    return msgspec.json.encode(document)
