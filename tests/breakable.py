"""Brokers that tests may break, one test after the other: a start takes longer than a repair."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.errors import LocalError

ON_THREE = pytest.mark.xdist_group("three_brokers")
"""Tests with three brokers run in one process, so that these are started only once."""


def needs_three(item: pytest.Item | None) -> bool:
    """Whether a test is marked `ON_THREE`."""
    return item is not None and any(
        mark.args == ON_THREE.args for mark in item.iter_markers(ON_THREE.name)
    )


class BreakableKafka:
    """One cluster, which is started when a test first needs it."""

    def __init__(self, folder: Path, install: Install, nodes: int) -> None:
        self._folder = folder
        self._install = install
        self._nodes = nodes
        self._starts = 0
        self._cluster: Cluster | None = None

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Cluster]:
        """Pass the brokers to a test; repair them and delete all topics afterwards."""
        if self._cluster is None:
            self._starts += 1
            folder = self._folder / f"cluster-{self._starts}"
            cluster = Cluster(folder, self._install, nodes=self._nodes)
            await cluster.start()
            self._cluster = cluster
        yield self._cluster
        try:
            await _repair(self._cluster)
        except (LocalError, KafkaError, TimeoutError):  # the next test gets new ones
            await self.stop()

    async def stop(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            _thaw(cluster)
            await cluster.stop()


@contextlib.contextmanager
def breakable_kafka(folder: Path, install: Install, nodes: int) -> Iterator[BreakableKafka]:
    kafka = BreakableKafka(folder, install, nodes)
    try:
        yield kafka
    finally:
        asyncio.run(kafka.stop())


def _thaw(cluster: Cluster) -> None:
    for broker in cluster.brokers:
        if broker.process is not None:
            broker.process.send_signal(signal.SIGCONT)


async def _repair(cluster: Cluster) -> None:
    """Start brokers that were killed, continue frozen ones, and delete the topics."""
    _thaw(cluster)
    for broker in cluster.brokers:
        if broker.process is None:
            broker.launch()
    await cluster.wait_until_ready()
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if not name.startswith("__")]
        if names:
            await admin.delete_topics(names)
    finally:
        await admin.close()
