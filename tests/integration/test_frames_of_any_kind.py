"""No record of the submissions topic ends a worker: the fuzzers' frames through a real flush."""

import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from contract.dead_letter import decode_source
from contract.entity import entity_key
from contract.frame import encode_frame
from contract.row import decode_entity_row
from processor.core.write_batch import MAX_ROW_BYTES
from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.zstd_codec import zstd_batch
from service.kafka.clients import client_options
from service.kafka.compressed_batch import HEADER_BYTES, MAX_UNPACKED_BYTES
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.fuzz import seeds
from tests.integration.frames import client
from tests.integration.processes import Service, row_writer
from tests.integration.workers import NEVER_LATE, Found, a_worker, running, settled
from tests.shared_kafka import SharedKafka


@pytest.fixture
def settings(kafka: SharedKafka, topic_prefix: str) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=1,
    )


@pytest.fixture
async def producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Compresses: a small request may contain records larger than can be written."""
    await ensure_topics(settings)
    async with AIOKafkaProducer(
        **client_options(settings), compression_type="gzip", max_request_size=2**28
    ) as producer:
        yield producer


async def letters_of(settings: KafkaSettings) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []

    def take(_: int, records: Sequence[ConsumerRecord]) -> None:
        found.extend(records)

    async with TopicReader(settings, topics_from(settings).dead_letter.name, [0]) as reader:
        await reader.read_to_end(take, {})
    return found


async def test_every_seed_frame_of_the_fuzzers_is_flushed(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    topic = topics_from(settings).submissions.name
    worker = a_worker(settings, "w1", tmp_path, DEAD_LETTERS_PER_MINUTE="0")
    exporter = Service("exporter", settings, tmp_path)
    async with running(worker), exporter:
        for frame in (*seeds.frames(), *seeds.large_frames()):
            await producer.send_and_wait(topic, frame, partition=0)
        last = await producer.send_and_wait(
            topic, encode_frame(NEVER_LATE, [client("good", bytes_sent=1)]), partition=0
        )
        await settled(settings)
        await exporter.wait_until_ready()
        assert 'client_id="good"' in (await exporter.scrape(f"0-{last.offset}-0")).text
    assert worker.faults() == []
    found = await Found.of(settings)
    assert found.ledgers[0].balances
    assert found.ledgers[0].offset == last.offset
    assert max(map(len, found.rows.values())) <= MAX_ROW_BYTES
    merged = decode_entity_row(found.rows[entity_key("client", "merged")])
    assert merged.labels.keys() == {"label-0", "label-1"}, "the third would exceed the limit"
    assert entity_key("client", "together") not in found.rows
    reasons = [decode_source(letter.headers).reason for letter in await letters_of(settings)]
    too_large = [reason for reason in reasons if "bytes; the maximum is" in reason]
    assert any(reason.startswith("the row of client:merged would have 6") for reason in too_large)
    assert found.ledgers[0].dead_lettered == len(reasons)


async def test_a_foreign_row_too_large_to_rewrite_ends_no_worker(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """It is the second-last record of a key, followed by an older row from another producer."""
    topics = topics_from(settings)
    row = b'{"version":1,"offset":%d,"index":0,"generation":1,"heard_at":1,"last_check_in":1.0,'
    huge = row % 5 + b'"labels":{"name":"%b"}}' % (b"x" * 3_000_000)
    async with row_writer(settings) as rows:
        for value in (huge, row % 4 + b'"labels":{}}'):
            await producer.send_and_wait(
                topics.entity_state.name, value, key=b"client:good", partition=0
            )
        await rows.ledger(0, -1)
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker):
        await producer.send_and_wait(
            topics.submissions.name,
            encode_frame(NEVER_LATE, [client("good", bytes_sent=1)]),
            partition=0,
        )
        await settled(settings)
    assert worker.faults() == []


def pack_with_lz4(batch: BatchBuilder) -> None:
    """Close a batch, and store its records in one uncompressed block of LZ4's frame format."""
    packed = bytearray(batch._build())
    records = bytes(packed[HEADER_BYTES:])
    block = struct.pack("<I", 0x8000_0000 | len(records)) + records
    packed[HEADER_BYTES:] = bytes.fromhex("04224d186040") + b"\x82" + block + bytes(4)
    struct.pack_into(">i", packed, 8, len(packed) - 12)
    struct.pack_into(">h", packed, 21, 3)
    struct.pack_into(">I", packed, 17, calc_crc32c(bytes(packed[21:])))
    batch._buffer = packed


async def test_batches_that_cannot_be_decompressed_are_dead_letters(
    settings: KafkaSettings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Two exceed the size limit, one of them in zstd, and one has a codec that is not read."""
    topic = topics_from(settings).submissions.name
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker):
        good = encode_frame(NEVER_LATE, [client("good", bytes_sent=1)])
        await producer.send_and_wait(topic, good, partition=0)
        await settled(settings)
        before = peak_bytes(worker.pid)
        await producer.send_and_wait(topic, bytes(3 * MAX_UNPACKED_BYTES), partition=0)
        async with AIOKafkaProducer(**client_options(settings)) as plain:
            batch = plain.create_batch()
            for _ in range(2):
                batch.append(key=None, value=good, timestamp=None)
            pack_with_lz4(batch)
            await (await plain.send_batch(batch, topic, partition=0))
            bomb = zstd_batch(2**28)
            bomb.append(key=None, value=bytes(3 * MAX_UNPACKED_BYTES), timestamp=None)
            await (await plain.send_batch(bomb, topic, partition=0))
        await producer.send_and_wait(topic, good, partition=0)
        await settled(settings)
        assert peak_bytes(worker.pid) - before < 2 * MAX_UNPACKED_BYTES  # unbounded: 3 at least
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert (ledger.read, ledger.applied, ledger.dead_lettered, ledger.lost) == (6, 2, 4, 0)
    letters = await letters_of(settings)
    assert b"decompresses to more than 67108864 bytes" in letters[0].value
    assert b"compressed with codec 3" in letters[1].value
    assert b"decompresses to more than 67108864 bytes" in letters[3].value


def peak_bytes(pid: int) -> int:
    """Return the peak memory of a process."""
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) * 1024
