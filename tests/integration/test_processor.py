"""Whatever happens to workers, no submission is lost and none is counted twice."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, group_member_count
from service.kafka.topics import ensure_topics
from tests.integration.processes import Service
from tests.integration.workers import WorkerLoad, a_worker, assert_nothing_lost, running, settled

ROUNDS = int(os.environ.get("ROUNDS", "2"))
"""Faults of each kind; a long run has more."""


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"repeat with SEED={seed}")
    return random.Random(seed)


KILL_LONG_TERM = pytest.mark.parametrize(
    "sent",
    [
        pytest.param(signal.SIGKILL, id="kill"),
        pytest.param(signal.SIGTERM, id="term", marks=pytest.mark.long),
    ],
)
TERM_LONG_KILL = pytest.mark.parametrize(
    "sent",
    [
        pytest.param(signal.SIGKILL, id="kill", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, id="term"),
    ],
)


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await ensure_topics(kafka_settings)
    return kafka_settings


async def some_load(load: WorkerLoad, rng: random.Random) -> None:
    """Wait until a random number of further submissions has been sent."""
    target = load.sent + rng.randrange(load.rate // 2, load.rate * 2)
    while load.sent < target:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def members(settings: KafkaSettings) -> int:
    """Return the number of members of the processors' group."""
    async with admin_client(settings) as admin:
        return await group_member_count(admin, f"{settings.kafka_topic_prefix}processor")


async def owns(worker: Service, partitions: int) -> None:
    """Wait until a worker owns this number of partitions."""
    wanted = f"tobogganing_processor_partitions {float(partitions)}"
    async with asyncio.timeout(60):
        while wanted not in (await worker.scrape()).text:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_worker_that_stops_normally_leaves_the_group_and_a_killed_one_is_waited_for(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    one, two = a_worker(settings, "w1", tmp_path), a_worker(settings, "w2", tmp_path)
    async with running(one, two):
        assert await one.end(signal.SIGTERM) == 0
        assert await members(settings) == 1
        await owns(two, settings.kafka_partitions)
        await two.end(signal.SIGKILL)
        assert await members(settings) == 1


@KILL_LONG_TERM
async def test_one_worker_restarted_under_load(
    settings: KafkaSettings, tmp_path: Path, rng: random.Random, sent: signal.Signals
) -> None:
    worker, load = a_worker(settings, "w1", tmp_path), WorkerLoad(settings)
    async with running(worker):
        async with load.running():
            for _ in range(ROUNDS):
                await some_load(load, rng)
                await worker.end(sent)
                await worker.start()
                await worker.wait_until_ready()
            await some_load(load, rng)
        await settled(settings)
    await assert_nothing_lost(settings, load)
    assert worker.faults() == []


@TERM_LONG_KILL
async def test_stopped_during_a_backlog(
    settings: KafkaSettings, tmp_path: Path, rng: random.Random, sent: signal.Signals
) -> None:
    """Batches are large and every entity has one submission, so any loss at a stop is visible."""
    load = WorkerLoad(settings)
    await load.backlog(frames=200, submissions=300)
    worker = a_worker(settings, "w1", tmp_path)
    async with running(worker):
        for _ in range(ROUNDS):
            await asyncio.sleep(rng.uniform(0, 0.3))  # a random moment, not a wait
            await worker.end(sent)
            await worker.start()
            await worker.wait_until_ready()
        await settled(settings)
    await assert_nothing_lost(settings, load)
    assert worker.faults() == []


@TERM_LONG_KILL
async def test_one_of_two_workers_restarted_under_load(
    settings: KafkaSettings, tmp_path: Path, rng: random.Random, sent: signal.Signals
) -> None:
    workers = [a_worker(settings, f"w{number}", tmp_path) for number in (1, 2)]
    load = WorkerLoad(settings)
    async with running(*workers):
        async with load.running():
            for _ in range(ROUNDS):
                await some_load(load, rng)
                worker = rng.choice(workers)
                await worker.end(sent)
                await worker.start()
                await worker.wait_until_ready()
            await some_load(load, rng)
        await settled(settings)
    await assert_nothing_lost(settings, load)
    assert [worker.faults() for worker in workers] == [[], []]


async def test_a_worker_joins_and_is_killed_under_load(
    settings: KafkaSettings, tmp_path: Path, rng: random.Random
) -> None:
    first, second = (a_worker(settings, f"w{number}", tmp_path) for number in (1, 2))
    load = WorkerLoad(settings)
    async with running(first):
        async with load.running(), running(second):
            await some_load(load, rng)
            await second.end(signal.SIGKILL)
            await some_load(load, rng)
        await settled(settings)
    await assert_nothing_lost(settings, load)
    assert first.faults() == second.faults() == []


async def test_a_frozen_worker_ends_itself_and_does_no_harm(
    settings: KafkaSettings, tmp_path: Path, rng: random.Random
) -> None:
    workers = [a_worker(settings, f"w{number}", tmp_path) for number in (1, 2)]
    load = WorkerLoad(settings)
    async with running(*workers):
        async with load.running():
            await some_load(load, rng)
            frozen, other = rng.sample(workers, 2)
            frozen.send(signal.SIGSTOP)
            await owns(other, settings.kafka_partitions)
            frozen.send(signal.SIGCONT)
            assert await frozen.ended() == 70
            await frozen.start()
            await frozen.wait_until_ready()
            await some_load(load, rng)
        await settled(settings)
    await assert_nothing_lost(settings, load)
