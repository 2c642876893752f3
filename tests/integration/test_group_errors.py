"""Errors of the group coordinator, and endless waits: the worker recovers or ends in
bounded time."""

import asyncio
import json
import os
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.config.settings import KafkaSettings
from tests.integration.frames import PARTITIONS, FrameWriter, client, frame_writer, ids_of
from tests.integration.kafka_proxy import FETCH, LIST_OFFSETS, KafkaProxy, ProxiedCluster
from tests.integration.processes import Service
from tests.integration.workers import a_worker, running, settled
from tobogganing.devstack.install import Install

UNKNOWN, UNASSIGNED, NOT_AUTHORIZED = -1, 31_000, 30
"""Error codes: an unknown error, an unassigned one, and a permanent one."""
BOUND = 45.0
"""Seconds within which a worker must be ready again, or have ended."""

pytestmark = pytest.mark.xdist_group("group_errors")


@pytest.fixture(scope="module")
def proxied(
    kafka_install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxiedCluster]:
    proxied = ProxiedCluster(tmp_path_factory.mktemp("kafka"), kafka_install)
    with asyncio.Runner() as runner:
        runner.run(proxied.cluster.start())
        yield proxied
        runner.run(proxied.cluster.stop())


@pytest.fixture
async def proxy(proxied: ProxiedCluster) -> AsyncIterator[KafkaProxy]:
    proxy = KafkaProxy(proxied.near, proxied.far)
    async with proxy.running():
        yield proxy


@pytest.fixture
def settings(proxied: ProxiedCluster, topic_prefix: str) -> KafkaSettings:
    """Return settings without the proxy, which only the worker uses."""
    return KafkaSettings(
        kafka_bootstrap_servers=proxied.cluster.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=PARTITIONS,
    )


@pytest.fixture
async def frames(settings: KafkaSettings) -> AsyncIterator[FrameWriter]:
    async with frame_writer(settings) as writer:
        yield writer


@pytest.fixture
def worker(proxied: ProxiedCluster, settings: KafkaSettings, tmp_path: Path) -> Service:
    return a_worker(replace(settings, kafka_bootstrap_servers=proxied.servers), "w1", tmp_path)


async def metric(worker: Service, name: str) -> float:
    text = (await worker.scrape()).text
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])


async def applies(frames: FrameWriter, settings: KafkaSettings, value: int) -> None:
    """Submit to both partitions and wait until both are applied."""
    for partition in range(PARTITIONS):
        (id,) = ids_of(partition, PARTITIONS, 1)
        await frames.frame(partition, client(id, bytes_sent=value))
    await settled(settings, BOUND)


def criticals(worker: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in worker.faults()]


JOINING = {
    UNKNOWN: ("FindCoordinator", "JoinGroup", "SyncGroup", "OffsetFetch"),
    UNASSIGNED: ("JoinGroup", "SyncGroup", "OffsetFetch"),
}


@pytest.mark.parametrize("code", [UNKNOWN, pytest.param(UNASSIGNED, marks=pytest.mark.long)])
async def test_errors_of_the_coordinator_are_retried(
    proxy: KafkaProxy, worker: Service, settings: KafkaSettings, frames: FrameWriter, code: int
) -> None:
    """Those of each request of a join, then of heartbeats, then of commits."""
    for name in JOINING[code]:
        proxy.fail(name, code, times=2)
    async with worker:
        await worker.until("/-/ready", 200, BOUND)
        await applies(frames, settings, 1)
        assert [proxy.rewritten[name] for name in JOINING[code]] == [2] * len(JOINING[code])
        assert worker.faults() == []

        proxy.fail("Heartbeat", code, times=2)
        async with asyncio.timeout(BOUND):
            while proxy.rewritten["Heartbeat"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while await metric(worker, "tobogganing_processor_heartbeat_age_seconds") > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await applies(frames, settings, 2)
        assert await metric(worker, "tobogganing_processor_group_error_retries_total") >= 1
        assert worker.faults() == []

        proxy.fail("OffsetCommit", code, times=2)
        value = 2
        async with asyncio.timeout(BOUND):
            while proxy.rewritten["OffsetCommit"] < 2:
                value += 1
                await applies(frames, settings, value)
        await applies(frames, settings, value + 1)
        assert (await worker.http.get("/-/ready")).status_code == 200
        assert worker.faults() == []


async def test_a_permanent_error_ends_the_worker_with_its_cause(
    proxy: KafkaProxy, worker: Service, settings: KafkaSettings
) -> None:
    proxy.fail("JoinGroup", NOT_AUTHORIZED, times=1)
    async with worker:
        assert await worker.ended(BOUND) == 70
        (line,) = criticals(worker)
        assert line["event"] == "the group rejects this worker"


async def test_an_endless_rebalance_is_unhealthy_then_ends_the_worker_with_its_stacks(
    proxy: KafkaProxy, worker: Service, settings: KafkaSettings, frames: FrameWriter
) -> None:
    proxy.fail("JoinGroup", UNKNOWN, times=1_000_000)
    async with worker:
        started = time.monotonic()
        fault = await worker.until("/-/healthy", 503, BOUND)
        assert time.monotonic() - started > 15
        (reason,) = fault.json()["faults"]
        assert reason.startswith("the worker has waited for its partitions for 1")
        assert await worker.ended(BOUND) == 70
        (line,) = criticals(worker)
        assert line["event"] == "this worker is stuck"
        stacks = [json.loads(each) for each in worker.log().splitlines() if '"stack":' in each]
        tasks = [" ".join(each["stack"]) for each in stacks if "task" in each]
        assert any("GroupCoordinator" in stack for stack in tasks)
        assert sum("thread" in each for each in stacks) >= 2
        proxy.fail("JoinGroup", UNKNOWN, times=0)
        await worker.start()
        await worker.until("/-/ready", 200, BOUND)
        await applies(frames, settings, 1)


async def test_a_coordination_task_that_died_ends_the_worker(
    proxy: KafkaProxy, worker: Service
) -> None:
    def cut(response: Any) -> None:
        response.member_assignment = b"\x00"

    proxy.change("SyncGroup", cut, times=1)
    async with worker:
        assert await worker.ended(BOUND) == 70
        (line,) = criticals(worker)
        assert line["event"] == "a background task of the Kafka consumer has ended"
        assert line["task"] == "coordination"


async def test_a_load_that_hangs_ends_the_worker(
    proxy: KafkaProxy, worker: Service, settings: KafkaSettings, frames: FrameWriter
) -> None:
    """The broker returns the end of the topic, and then no record of it."""
    async with running(worker):
        await applies(frames, settings, 1)
        await worker.end()
        with proxy.holding(FETCH):
            await worker.start()
            assert await worker.ended(BOUND) == 70
        (line,) = criticals(worker)
        assert line["event"] == "the state could not be loaded"
        assert "TimeoutError" in line["reason"]
        await worker.start()
        await worker.until("/-/ready", 200, BOUND)
        await applies(frames, settings, 2)


async def test_a_broker_that_is_slow_while_partitions_are_taken_over_ends_no_worker(
    proxy: KafkaProxy, worker: Service, settings: KafkaSettings, frames: FrameWriter
) -> None:
    """A request that times out is retried, as the leader of a partition may have moved."""
    with proxy.holding(LIST_OFFSETS) as release:
        async with worker:
            async with asyncio.timeout(BOUND):
                while "could not take over partitions: retrying" not in worker.log():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            release()
            await worker.until("/-/ready", 200, BOUND)
            await applies(frames, settings, 1)
            assert worker.faults() == []


HANGS = {
    "seek": ("AIOKafkaConsumerThread._seek_wait", "could not seek to the ledger"),
    "rebalance": ("ConsumerRebalanceListener.on_partitions_assigned", "this worker is stuck"),
}


@pytest.mark.parametrize("what", ["seek", pytest.param("rebalance", marks=pytest.mark.long)])
async def test_a_wait_that_hangs_ends_the_worker(
    settings: KafkaSettings, frames: FrameWriter, tmp_path: Path, what: str
) -> None:
    method, event = HANGS[what]
    worker = a_worker(settings, "w1", tmp_path, **hanging(tmp_path, method))
    async with worker:
        assert await worker.ended(BOUND) == 70
        assert [line["event"] for line in criticals(worker)] == [event]
        (tmp_path / "hang").unlink()
        await worker.start()
        await worker.until("/-/ready", 200, BOUND)
        await applies(frames, settings, 1)


def hanging(folder: Path, method: str) -> dict[str, str]:
    """Return the environment of a worker in which a method of Faust hangs while a file exists.

    Only calls for partitions of the submissions topic hang: Faust seeks those of entity-state
    first.
    """
    startup = folder / "startup"
    startup.mkdir()
    (folder / "hang").touch()
    (startup / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
            import asyncio, pathlib, sys
            if "processor" in sys.orig_argv and pathlib.Path({str(folder / "hang")!r}).exists():
                from faust.transport.drivers import aiokafka as driver

                original = driver.{method}

                async def hang(*arguments):
                    if "submissions" in repr(arguments):
                        await asyncio.Event().wait()
                    await original(*arguments)

                driver.{method} = hang
        """)
    )
    root = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join((str(startup), root))}
