"""Partitions without a leader: a source partition waits while the others continue; a worker waits
for changelog partitions before it joins its group."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from contract.topics import Topic
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.topics import topics_from
from tests.breakable import ON_THREE
from tests.integration.frames import PARTITIONS, FrameWriter, client, frame_writer, ids_of
from tests.integration.processes import freeze
from tests.integration.workers import Found, a_worker, running
from tobogganing.devstack.cluster import Cluster

(LED,) = ids_of(1, PARTITIONS, 1)
(LEADERLESS,) = ids_of(0, PARTITIONS, 1)
STALL = 5.0
"""Seconds within which a submission to another partition must be applied."""


pytestmark = ON_THREE


@pytest.fixture
def on_three(three_settings: KafkaSettings) -> KafkaSettings:
    """Three brokers, without topics."""
    return replace(three_settings, kafka_partitions=PARTITIONS)


@pytest.fixture
async def settings(on_three: KafkaSettings) -> KafkaSettings:
    """Only the last broker has a replica of partition 0 of the submissions topic."""
    settings = on_three
    await create_topics(settings, topics_from(settings).submissions)
    return settings


async def create_topics(settings: KafkaSettings, on_last: Topic) -> None:
    """Create the topics; only the last broker has a replica of partition 0 of one of them."""
    assigned = {"replica_assignments": {0: [3], 1: [2]}}
    async with admin_client(settings) as admin:
        response = await admin.create_topics(
            [
                NewTopic(
                    topic.name,
                    *((-1, -1) if topic == on_last else (topic.partitions, 3)),
                    topic_configs=topic.settings | {"min.insync.replicas": "1"},
                    **(assigned if topic == on_last else {}),
                )
                for topic in topics_from(settings).all()
            ]
        )
    errors = [each for each in response.topic_errors if each[1]]
    assert errors == []


@pytest.fixture
async def frames(settings: KafkaSettings) -> AsyncIterator[FrameWriter]:
    async with frame_writer(settings) as writer:
        yield writer


async def applied(settings: KafkaSettings, partition: int) -> int:
    try:
        ledger = (await Found.of(settings)).ledgers.get(partition)
    except KafkaError:  # a frozen broker leads entity-state for some seconds
        return -1
    return -1 if ledger is None else ledger.offset


async def until_applied(settings: KafkaSettings, partition: int, offset: int) -> float:
    """Wait until the ledger covers an offset; return the seconds that it took."""
    started = time.monotonic()
    async with asyncio.timeout(60):
        while await applied(settings, partition) < offset:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return time.monotonic() - started


async def others_continue(settings: KafkaSettings, frames: FrameWriter, seconds: float) -> None:
    """Submit to the other partition for some time; no submission may wait."""
    end = time.monotonic() + seconds
    waits = []
    while time.monotonic() < end:
        offset = await frames.frame(1, client(LED, bytes_sent=1))
        waits.append(await until_applied(settings, 1, offset))
    assert max(waits) < STALL, waits


async def test_a_partition_without_a_leader_delays_no_other(
    three_brokers: Cluster, settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    broker = three_brokers.brokers[-1]
    worker = a_worker(settings, "w1", tmp_path, STUCK_AFTER_SECONDS="5")
    async with running(worker):
        first = await frames.frame(0, client(LEADERLESS, bytes_sent=1))
        await until_applied(settings, 0, first)
        await broker.kill()
        await until_applied(settings, 1, await frames.frame(1, client(LED, bytes_sent=1)))
        await others_continue(settings, frames, 8)
        assert worker.faults() == []
        assert (await worker.http.get("/-/healthy")).status_code == 200

        await worker.end()
        await worker.start()
        await until_applied(settings, 1, await frames.frame(1, client(LED, bytes_sent=2)))
        await others_continue(settings, frames, 8)
        reasons = (await worker.until("/-/ready", 503)).text
        assert "partition 0 to be compared with its source" in reasons
        assert (await worker.http.get("/-/healthy")).status_code == 200
        assert worker.faults() == []

        broker.launch()
        await three_brokers.wait_until_ready()
        second = await frames.frame(0, client(LEADERLESS, bytes_sent=2))
        await until_applied(settings, 0, second)
        await worker.wait_until_ready()
    assert worker.faults() == []
    ledger = (await Found.of(settings)).ledgers[0]
    assert (ledger.applied, ledger.lost, ledger.parted) == (2, 0, 0)


@pytest.mark.long
async def test_a_frozen_leader_delays_no_other_at_startup(
    three_brokers: Cluster, settings: KafkaSettings, frames: FrameWriter, tmp_path: Path
) -> None:
    """It still leads its partition for some seconds, and does not respond."""
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker):
        first = await frames.frame(0, client(LEADERLESS, bytes_sent=1))
        await until_applied(settings, 0, first)
        await worker.end()
        process = three_brokers.brokers[-1].process
        assert process is not None
        freeze(process.pid)
        try:
            await worker.start()
            await until_applied(settings, 1, await frames.frame(1, client(LED, bytes_sent=2)))
            assert worker.faults() == []
        finally:
            process.send_signal(signal.SIGCONT)
        await worker.wait_until_ready()
    assert worker.faults() == []


async def test_a_changelog_partition_without_a_leader_is_waited_for(
    three_brokers: Cluster, on_three: KafkaSettings, tmp_path: Path
) -> None:
    """A worker that must load it ends with a message that names it, and its successor waits."""
    settings, broker = on_three, three_brokers.brokers[-1]
    changelog = topics_from(settings).entity_state
    await create_topics(settings, changelog)
    worker = a_worker(settings, "w1", tmp_path)
    async with worker, frame_writer(settings) as frames:
        await worker.wait_until_ready()
        await until_applied(settings, 0, await frames.frame(0, client(LEADERLESS, bytes_sent=1)))
        await broker.kill()
        await frames.frame(0, client(LEADERLESS, bytes_sent=2))
        assert await worker.ended(60) == 70
        assert '"without_leader":[0]' in worker.faults()[-1]

        await worker.start()
        reason = f"a leader of partition 0 of {changelog.name}"
        async with asyncio.timeout(60):
            while reason not in (await worker.until("/-/ready", 503)).text:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        ends = len(worker.faults())
        assert (await worker.http.get("/-/healthy")).status_code == 200

        broker.launch()
        await three_brokers.wait_until_ready()
        await worker.wait_until_ready()
        second = await frames.frame(0, client(LEADERLESS, bytes_sent=3))
        await until_applied(settings, 0, second)
        assert len(worker.faults()) == ends
    assert (await Found.of(settings)).ledgers[0].applied == 3
