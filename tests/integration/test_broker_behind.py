"""The clock of one of three brokers is an hour behind: credentials stay valid, samples count."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests import debian
from tests.integration.gateways import gateway, registered
from tests.integration.gateways import submit as submit_by_key
from tests.integration.processes import Service
from tests.integration.test_tokens import headend, submit, token
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install

BEHIND = 3_600
NODES = 3
CLIENTS = 24
"""Enough clients that each partition has some."""


class FakedCluster(Cluster):
    """Brokers whose clocks show the time plus the offset in a file of each broker."""

    library: Path

    def _place(self) -> None:
        super()._place()
        self.folder.mkdir(parents=True, exist_ok=True)
        for broker in self.brokers:
            clock = self.clock(broker.node.id)
            clock.write_text("+0")
            broker.extra_environ = {
                "LD_PRELOAD": str(self.library),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # otherwise timed waits of the JVM never end
            }

    def clock(self, node: int) -> Path:
        return self.folder / f"clock-{node}"


@pytest.fixture
async def cluster(kafka_install: Install, tmp_path: Path) -> AsyncIterator[FakedCluster]:
    (folder,) = await asyncio.to_thread(debian.unpacked, "libfaketime")
    made = FakedCluster(tmp_path / "kafka", kafka_install, nodes=NODES)
    made.library = next(folder.rglob("libfaketime.so.1"))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def _lags(service: Service, clients: dict[str, dict[str, str]]) -> list[float]:
    """Submit as each client; return by how many seconds the append times are in the past."""
    lags = []
    for id, headers in clients.items():
        answer = await submit_by_key(service, id, headers, 1)
        assert answer.status_code == 200, answer.text
        lags.append(time.time() - int(answer.json()["receipt"].split("-")[3]) / 1000)
    return lags


@pytest.mark.long
async def test_a_broker_clock_that_is_behind_invalidates_no_token_or_sample(
    cluster: FakedCluster, tmp_path: Path, signing_keys: str
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=cluster.bootstrap_servers,
        kafka_partitions=2 * NODES,
        kafka_replication=NODES,
    )
    async with contextlib.AsyncExitStack() as stack:

        async def started() -> Service:
            service = gateway(settings, tmp_path, signing_keys)
            await stack.enter_async_context(service)
            await service.wait_until_ready()
            return service

        services = [await started()]
        api_key = await headend(services[0], "h")
        before = await token(services[0], "h", api_key)
        clients = {f"c-{n}": await registered(services[0], f"c-{n}") for n in range(CLIENTS)}
        assert max(await _lags(services[0], clients)) < BEHIND / 2

        await asyncio.to_thread(cluster.clock(2).write_text, f"-{BEHIND}")
        async with asyncio.timeout(30):
            while max(await _lags(services[0], clients)) < BEHIND / 2:
                assert await submit(services[0], "h", before) == 200
                await pause()
        services.append(await started())
        after = await token(services[1], "h", api_key)
        for service in services:
            lags = await _lags(service, clients)
            assert min(lags) < BEHIND / 2 < max(lags)
            for text in (before, after, await token(service, "h", api_key)):
                assert await submit(service, "h", text) == 200
            old = await registered(service, f"r-{service.port}")
            assert (await submit_by_key(service, f"r-{service.port}", old, 1)).status_code == 200
