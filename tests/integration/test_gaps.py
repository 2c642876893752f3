"""Offsets without a record: transaction markers, compacted batches, records deleted unread.

None of them ends a worker or remains as lag, and only deleted records count as lost.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contract.entity import entity_key
from contract.frame import Submission, encode_frame
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.command_line import kafka_command
from tests.integration.frames import (
    NEVER_LATE,
    PARTITIONS,
    FrameWriter,
    client,
    delete_records,
    ids_of,
)
from tests.integration.processes import Service
from tests.integration.workers import Found, a_worker, running, settled

CAP = 60
"""Dead letters per minute."""
FLOOD = encode_frame(NEVER_LATE, [Submission("nothing", "known", 1)] * CAP)
"""Pauses its partition."""
STUCK_AFTER = 6.0


class Transactions:
    """Writes frames to the submissions topic in transactions, as a mirror may do."""

    def __init__(self, settings: KafkaSettings, producer: AIOKafkaProducer) -> None:
        self._topic = topics_from(settings).submissions.name
        self._producer = producer

    async def write(self, partition: int, *values: bytes, commit: bool = True) -> list[int]:
        """Write records in one transaction; return their offsets. Its marker follows them."""
        await self._producer.begin_transaction()
        offsets = [
            (await self._producer.send_and_wait(self._topic, value, partition=partition)).offset
            for value in values
        ]
        if commit:
            await self._producer.commit_transaction()
        else:
            await self._producer.abort_transaction()
        return offsets


@pytest.fixture
async def transactions(
    settings: KafkaSettings, topic_prefix: str, frames: FrameWriter
) -> AsyncIterator[Transactions]:
    async with AIOKafkaProducer(
        **client_options(settings), transactional_id=f"{topic_prefix}mirror"
    ) as producer:
        yield Transactions(settings, producer)


def frame(id: str, value: int) -> bytes:
    return encode_frame(NEVER_LATE, [client(id, bytes_sent=value)])


async def lag(exporter: Service) -> dict[int, int]:
    response = await exporter.http.get("/api/v1/ledger", headers=exporter.authorized)
    return {each["partition"]: each["lag_records"] for each in response.json()["partitions"]}


async def until_no_lag(exporter: Service) -> None:
    async with asyncio.timeout(30):
        while any((await lag(exporter)).values()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_transaction_markers_end_no_worker_and_leave_no_lag(
    settings: KafkaSettings, frames: FrameWriter, transactions: Transactions, tmp_path: Path
) -> None:
    (id,) = ids_of(0, PARTITIONS, 1)
    worker = a_worker(settings, "w1", tmp_path, STUCK_AFTER_SECONDS=str(STUCK_AFTER))
    async with (
        running(worker),
        Service("exporter", settings, tmp_path) as exporter,
    ):
        await exporter.wait_until_ready()
        await transactions.write(0, frame(id, 1))
        await frames.frame(0, client(id, bytes_sent=2))
        await transactions.write(0, frame(id, 3), commit=False)
        await frames.frame(0, client(id, bytes_sent=4))
        (last,) = await transactions.write(0, frame(id, 5))
        assert last == 6
        assert (await exporter.scrape(f"0-{last}-0")).status_code == 200
        await settled(settings)
        await until_no_lag(exporter)
        silent_since = time.monotonic()
        receipt = await exporter.http.get(
            f"/api/v1/receipts/0-{last + 1}-0", headers=exporter.authorized
        )
        assert receipt.status_code == 404
        assert receipt.json()["error"] == "Partition 0 has no record at 7"

        await kafka_command(settings).good(
            "backup", str(tmp_path / "b"), "--drained", "--wait", "1"
        )
        while time.monotonic() < silent_since + STUCK_AFTER + 4:
            assert (await worker.http.get("/-/healthy")).status_code == 200
            await asyncio.sleep(0.2)
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert (ledger.offset, ledger.read, ledger.applied, ledger.lost) == (7, 5, 5, 0)


async def test_entities_expire_in_a_partition_that_ends_with_a_marker(
    settings: KafkaSettings, transactions: Transactions, tmp_path: Path
) -> None:
    (id,) = ids_of(0, PARTITIONS, 1)
    worker = a_worker(settings, "w1", tmp_path, RETENTION_HOURS="0.001")
    async with running(worker):
        await transactions.write(0, frame(id, 1))
        await settled(settings)
        async with asyncio.timeout(30):
            while entity_key("client", id) in (await Found.of(settings)).rows:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    assert worker.faults() == []


async def test_markers_written_without_a_worker_are_skipped_at_its_start(
    settings: KafkaSettings, frames: FrameWriter, transactions: Transactions, tmp_path: Path
) -> None:
    (id,) = ids_of(0, PARTITIONS, 1)
    async with running(worker := a_worker(settings, "w1", tmp_path)):
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
    for number in range(20):
        await transactions.write(0, frame(id, number), commit=number % 2 == 0)
    await frames.frame(0, client(id, bytes_sent=21))
    await transactions.write(0, frame(id, 22))
    async with running(worker):
        await settled(settings)
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert (ledger.applied, ledger.lost) == (23, 0)


async def test_a_paused_partition_resumes_after_a_marker(
    settings: KafkaSettings, frames: FrameWriter, transactions: Transactions, tmp_path: Path
) -> None:
    (id,) = ids_of(0, PARTITIONS, 1)
    worker = a_worker(settings, "w1", tmp_path, DEAD_LETTERS_PER_MINUTE=str(CAP))
    async with running(worker):
        await transactions.write(0, FLOOD)
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
        stopped = "partition stopped: too many dead letters"
        assert stopped in worker.log()
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert (ledger.read, ledger.dead_lettered, ledger.applied) == (CAP + 1, CAP, 1)


async def test_records_deleted_unread_in_an_idle_partition_are_lost_not_lag(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    (id,), (other,) = ids_of(0, PARTITIONS, 1), ids_of(1, PARTITIONS, 1)
    async with running(worker := a_worker(settings, "w1", tmp_path)):
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
    for number in range(5):
        await frames.frame(0, client(id, bytes_sent=number))
        await frames.frame(1, client(other, bytes_sent=number))
    topic = topics_from(settings).submissions.name
    await delete_records(settings, topic, 0)
    await delete_records(settings, topic, 1, before=2)
    async with running(worker), Service("exporter", settings, tmp_path) as exporter:
        assert (await Found.of(settings)).ledgers[0].lost == 5, "counted before it is ready"
        await exporter.wait_until_ready()
        await until_no_lag(exporter)
        await kafka_command(settings).good(
            "backup", str(tmp_path / "b"), "--drained", "--wait", "1"
        )
    assert worker.faults() == []
    ledgers = (await Found.of(settings)).ledgers
    assert (ledgers[0].offset, ledgers[0].read, ledgers[0].lost) == (5, 1, 5)
    assert (ledgers[1].read, ledgers[1].applied, ledgers[1].lost) == (3, 3, 2)


async def test_records_deleted_unread_while_the_worker_runs_are_lost_not_lag(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """The partition is paused while they are deleted, and idle afterwards."""
    (id,) = ids_of(0, PARTITIONS, 1)
    worker = a_worker(settings, "w1", tmp_path, DEAD_LETTERS_PER_MINUTE=str(CAP))
    async with running(worker):
        await frames.raw_all(0, [FLOOD, *[frame(id, 1)] * 20])
        await until_stopped(worker)
        await delete_records(settings, topics_from(settings).submissions.name, 0)
        await settled(settings)
        await frames.frame(0, client(id, bytes_sent=1))
        await settled(settings)
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert (ledger.dead_lettered, ledger.lost, ledger.applied) == (CAP, 20, 1)


async def until_stopped(worker: Service) -> None:
    stopped = re.compile(
        r'^tobogganing_processor_partition_stopped\{partition="0",reason="dead_letters"\} 1', re.M
    )
    async with asyncio.timeout(30):
        while not stopped.search((await worker.scrape()).text):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_compacted_batch_is_neither_an_error_nor_a_loss(
    compacting: KafkaSettings, tmp_path: Path
) -> None:
    """As in a submissions topic that was compacted for a while."""
    settings = compacting
    topic = (await ensure_topics(settings)).submissions

    async def configure(**values: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.settings | values)
        async with admin_client(settings) as admin:
            await admin.alter_configs([resource])

    policy = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"}
    await configure(**policy, **{"segment.ms": "100"})
    async with AIOKafkaProducer(**client_options(settings)) as producer:
        sent = 0

        async def send() -> None:
            nonlocal sent
            await producer.send_and_wait(
                topic.name, frame("c-1", sent), key=b"kept" if sent == 0 else b"k", partition=0
            )
            sent += 1

        for _ in range(5):
            await send()
        async with asyncio.timeout(90):
            while 1 in await _offsets(settings, topic.name):
                await send()
    offsets = await _offsets(settings, topic.name)
    assert offsets[0] == 0
    assert len(offsets) < sent
    await configure()  # a worker refuses to start on a compacted topic
    async with running(worker := a_worker(settings, "w1", tmp_path)):
        await settled(settings)
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert ledger.lost == 0
    assert 2 <= ledger.applied <= len(offsets)


async def _offsets(settings: KafkaSettings, topic: str) -> list[int]:
    found: list[int] = []
    async with TopicReader(settings, topic, [0]) as reader:
        await reader.read_to_end(lambda _, records: found.extend(r.offset for r in records), {})
    return found
