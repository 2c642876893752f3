"""The submissions topic went back: its end is lost, or it was deleted and recreated."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from contract.row import LedgerRow, decode_entity_row
from service.kafka import administration, ensure_topics, topics_of
from service.settings import KafkaSettings
from tests.integration.frames import PARTITIONS, client, frame_writer, ids_of
from tests.integration.workers import Found, a_worker, running
from tests.power_cut import power_cut
from tobogganing.local.cluster import Cluster

A, B, C = ids_of(0, PARTITIONS, 3)


@pytest.fixture
def broken(own_kafka: Cluster, topic_prefix: str) -> KafkaSettings:
    """An installation on a broker whose power may be cut."""
    return KafkaSettings(
        kafka_bootstrap_servers=own_kafka.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=PARTITIONS,
    )


async def send(settings: KafkaSettings, id: str, *values: int) -> list[int]:
    """Write frames of one submission each; return their offsets."""
    async with frame_writer(settings) as frames:
        return [await frames.frame(0, client(id, bytes_sent=value)) for value in values]


async def until(settings: KafkaSettings, **wanted: int) -> LedgerRow:
    """Wait until partition 0's ledger has these values."""
    found: LedgerRow | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(40):
            while True:
                found = (await Found.of(settings)).ledgers.get(0)
                if found and all(getattr(found, name) == value for name, value in wanted.items()):
                    assert found.balances
                    return found
                await asyncio.sleep(0.1)
    raise AssertionError(f"the ledger never had {wanted}: {found}")


async def shown(settings: KafkaSettings) -> dict[str, Any]:
    """The newest value of each client."""
    rows = (await Found.of(settings)).rows
    return {
        key.decode().partition(":")[2]: decode_entity_row(row).metrics["bytes_sent"]
        for key, row in rows.items()
    }


@pytest.mark.parametrize("alive", [True, False], ids=["worker-alive", "worker-down"])
async def test_what_comes_after_a_lost_end_is_applied(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path, alive: bool
) -> None:
    worker = a_worker(broken, "w", tmp_path)
    topic = topics_of(broken).submissions.name
    async with contextlib.AsyncExitStack() as stack:
        await ensure_topics(broken)
        await stack.enter_async_context(running(worker))
        await send(broken, A, 1, 2, 3)
        await send(broken, B, 10, 11, 12)
        await until(broken, offset=5, applied=6)
        if not alive:
            await worker.end()
        assert await power_cut(own_kafka, topic, 0, 2) == 2
        assert await send(broken, A, 4) == [2]
        if not alive:
            await worker.start()
        ledger = await until(broken, applied=7)
        assert (ledger.offset, ledger.shift, ledger.read, ledger.lost) == (6, 4, 7, 0)
        assert ledger.version == 2
        assert await shown(broken) == {A: 4, B: 12}
        await send(broken, B, 13, 14, 15, 16, 17, 18)
        ledger = await until(broken, applied=13)
        assert (ledger.offset, ledger.parted) == (12, 1)
        assert await shown(broken) == {A: 4, B: 18}
        await worker.end()
        await worker.start()
        await send(broken, C, 1)
        assert (await until(broken, applied=14)).read == 14
    assert worker.faults() == []


@pytest.mark.parametrize("alive", [True, False], ids=["worker-alive", "worker-down"])
async def test_a_recreated_topic_is_read_from_its_beginning(
    settings: KafkaSettings, tmp_path: Path, alive: bool
) -> None:
    worker = a_worker(settings, "w", tmp_path)
    topic = topics_of(settings).submissions.name
    await ensure_topics(settings)
    async with running(worker):
        await send(settings, A, 1, 2, 3)
        await until(settings, applied=3)
        if not alive:
            await worker.end()
        async with administration(settings) as admin:
            await admin.delete_topics([topic])
        await recreated(settings)
        assert await send(settings, A, 4, 5) == [0, 1]
        if not alive:
            await worker.start()
        ledger = await until(settings, applied=5)
        assert (ledger.offset, ledger.shift, ledger.read) == (4, 3, 5)
        assert await shown(settings) == {A: 5}
        await send(settings, B, 1, 2, 3, 4, 5)
        assert (await until(settings, applied=10)).parted == 1


async def recreated(settings: KafkaSettings) -> None:
    """Create the topics again once the deletion has taken effect."""
    await ensure_topics(settings)
