"""A source partition without a leader: it waits, and all others continue."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.topics import topics_from
from tests.integration.frames import PARTITIONS, FrameWriter, client, frame_writer, ids_of
from tests.integration.processes import freeze
from tests.integration.workers import Found, a_worker, running
from tobogganing.devstack.cluster import Cluster

(LED,) = ids_of(1, PARTITIONS, 1)
(LEADERLESS,) = ids_of(0, PARTITIONS, 1)
STALL = 5.0
"""Seconds within which a submission to another partition must be applied."""


@pytest.fixture
async def settings(three_brokers: Cluster, topic_prefix: str) -> KafkaSettings:
    """Three brokers; only the last one has a replica of partition 0 of the submissions topic."""
    settings = KafkaSettings(
        kafka_bootstrap_servers=three_brokers.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=PARTITIONS,
    )
    topics = topics_from(settings)
    async with admin_client(settings) as admin:
        await admin.create_topics(
            [
                NewTopic(
                    topic.name,
                    topic.partitions,
                    3,
                    topic_configs=topic.settings | {"min.insync.replicas": "1"},
                )
                for topic in topics.all()
                if topic != topics.submissions
            ]
            + [
                NewTopic(
                    topics.submissions.name,
                    -1,
                    -1,
                    replica_assignments={0: [3], 1: [1, 2]},
                    topic_configs=topics.submissions.settings | {"min.insync.replicas": "1"},
                )
            ]
        )
    return settings


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
    worker = a_worker(settings, "w1", tmp_path, STUCK_AFTER_SECONDS="10")
    async with running(worker):
        first = await frames.frame(0, client(LEADERLESS, bytes_sent=1))
        await until_applied(settings, 0, first)
        await broker.kill()
        await until_applied(settings, 1, await frames.frame(1, client(LED, bytes_sent=1)))
        await others_continue(settings, frames, 15)
        assert worker.faults() == []
        assert (await worker.http.get("/-/healthy")).status_code == 200

        await worker.end()
        await worker.start()
        await until_applied(settings, 1, await frames.frame(1, client(LED, bytes_sent=2)))
        await others_continue(settings, frames, 15)
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
