"""Kafka's evidence about a source that lost records, from a broker with other leader epochs."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.ledger import LedgerRow
from service.config.settings import KafkaSettings
from service.kafka.topics import topics_from
from tests.integration.frames import PARTITIONS
from tests.integration.source_histories import A, B, send, shown, sound_worker, until
from tests.power_cut import cut_tail, power_cut
from tests.waiting import eventually
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install


async def power_off(cluster: Cluster) -> None:
    """Kill the broker and restart it: its log is the same, its leader epoch is not."""
    await power_cut(cluster, {})


def leader_epoch(ledger: LedgerRow) -> int:
    assert ledger.mark is not None
    return ledger.mark.epoch


async def test_a_cut_through_an_older_leader_epoch_is_found(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """The log has no record of the ledger's epoch: its epochs have a gap."""
    topic = topics_from(broken).submissions.name
    async with sound_worker(broken, tmp_path) as worker:
        await send(broken, A, 1, 2, 3)
        first = leader_epoch(await until(broken, applied=3))
        for number in (4, 5):
            await power_off(own_kafka)
            await send(broken, A, number)
            last = leader_epoch(await until(broken, applied=number))
        assert last > first + 1
        await worker.end()
        await power_cut(own_kafka, {topic: 2})
        assert await send(broken, B, *range(20, 26)) == list(range(2, 8))
        await worker.start()
        ledger = await until(broken, applied=11, parted=1)
        assert (ledger.histories[-1].start, ledger.next_offset) == (2, 8)
        assert await shown(broken) == {A: 5, B: 25}


def copies_of(folder: Path, topic: str) -> list[Path]:
    """Return the directories of a broker's metadata and of one topic."""
    return [*folder.glob(f"{topic}-*"), folder / "__cluster_metadata-0"]


def restore(copy: Path, place: Path) -> None:
    if copy.is_dir():
        shutil.rmtree(place)
        shutil.copytree(copy, place)
    else:
        shutil.copy(copy, place)


@pytest.fixture
async def new_kafka(kafka_install: Install, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A broker of one test, which may replace its disk."""
    cluster = Cluster(tmp_path / "kafka", kafka_install)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


@pytest.mark.parametrize(
    "alive",
    [
        pytest.param(True, id="worker-alive", marks=pytest.mark.long),
        pytest.param(False, id="worker-down"),
    ],
)
async def test_an_older_copy_of_the_disk_stops_the_partition(
    new_kafka: Cluster, topic_prefix: str, tmp_path: Path, alive: bool
) -> None:
    """Kafka does not know the ledger's leader epoch, and will assign it to other records."""
    settings = KafkaSettings(
        kafka_bootstrap_servers=new_kafka.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=PARTITIONS,
    )
    (broker,) = new_kafka.brokers
    topics = topics_from(settings)
    data, copy = broker.folder / "data", tmp_path / "copy"
    async with sound_worker(settings, tmp_path) as worker:
        await send(settings, A, 1, 2)
        await until(settings, applied=2)
        await broker.kill()
        shutil.copytree(data, copy)
        broker.launch()
        await new_kafka.wait_until_ready()
        for number in (3, 4):
            await power_off(new_kafka)
            await send(settings, A, number)
            before = await until(settings, applied=number)
        if not alive:
            await worker.end()

        # An operator restores the broker; the worker is down, and entity-state is on another disk.
        await broker.kill()
        restored = copy.iterdir() if alive else copies_of(copy, topics.submissions.name)
        for each in restored:
            await asyncio.to_thread(restore, each, data / each.name)
        broker.launch()
        await new_kafka.wait_until_ready()
        assert await send(settings, B, *range(20, 24)) == [2, 3, 4, 5]
        if not alive:
            await worker.start()

        reasons = ""

        async def is_stopped() -> bool:
            nonlocal reasons
            reasons = (await worker.http.get("/-/ready")).text
            return "operator" in reasons

        async with asyncio.timeout(60):
            await worker.until("/-/ready", 503)
            await eventually(is_stopped)
        assert "older copy" in reasons
        after = await until(settings, applied=4)
        assert after.offset == before.offset


async def test_the_end_of_a_log_may_be_lost_within_the_newest_epoch_only(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path
) -> None:
    """All epochs are in the log; only the last one is shorter."""
    (broker,) = own_kafka.brokers
    topic = topics_from(broken).submissions.name
    async with sound_worker(broken, tmp_path):
        await send(broken, A, 1)
        await until(broken, applied=1)
        await power_off(own_kafka)
        await send(broken, A, 2, 3)
        await until(broken, applied=3)
        await broker.kill()
        assert cut_tail(broker, topic, 0, 2) == 2
        broker.launch()
        await own_kafka.wait_until_ready()
        await send(broken, B, 7)
        ledger = await until(broken, applied=4, parted=1)
        assert (ledger.histories[-1].start, ledger.lost) == (2, 0)
        assert await shown(broken) == {A: 3, B: 7}
