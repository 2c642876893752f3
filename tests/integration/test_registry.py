"""The registry writer on a real Kafka."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import Counter

from contract.entity import entity_key
from contract.registry import RECORD_VERSION, RegistryRecord, decode_record, encode_record
from gateway.produce.producer import MAX_BATCH_BYTES, ResilientProducer
from gateway.registry.writer import RegistryWriter
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.registry import RegistryReader
from service.kafka.topics import ensure_topics, topics_from


def client(id: str, name: str = "x") -> RegistryRecord:
    return RegistryRecord(RECORD_VERSION, "client", id, 1, name, {"type": "native"}, ["0" * 64])


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@contextlib.asynccontextmanager
async def writer(
    settings: KafkaSettings, heal_after: float = 60.0
) -> AsyncIterator[RegistryWriter]:
    await ensure_topics(settings)
    producer = ResilientProducer(settings, Counter("failures", "Failures", registry=None))
    registry = RegistryWriter(settings, producer)
    registry.repair_delay = heal_after
    registry.repair_interval = 0.05
    running = [asyncio.create_task(producer.run()), asyncio.create_task(registry.run())]
    try:
        async with asyncio.timeout(30):
            await producer.wait_until_ready()
            await registry.tailer.catch_up(30)
        yield registry
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def last_records(settings: KafkaSettings) -> dict[bytes, RegistryRecord]:
    """Return the records that compaction would keep."""
    last: dict[bytes, RegistryRecord] = {}

    def take(_: int, records: Any) -> None:
        for record in records:
            last[record.key] = decode_record(record.value)

    async with TopicReader(settings, topics_from(settings).registry.name, [0]) as reader:
        await reader.read_to_end(take, {})
    return last


async def test_thousands_of_concurrent_registrations(kafka_settings: KafkaSettings) -> None:
    async with writer(kafka_settings) as registry:
        began = time.monotonic()
        added = await asyncio.gather(*(registry.add(client(f"c{n}"), soon()) for n in range(5000)))
        assert all(added)
        assert time.monotonic() - began < 20
        fresh = RegistryReader(kafka_settings)
        following = asyncio.create_task(fresh.tailer.run())
        await fresh.tailer.catch_up(20)
        assert fresh.state.count("client") == 5000
        for number in (0, 17, 4999):
            key = entity_key("client", f"c{number}")
            assert fresh.state.get(key) == registry.state.get(key)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_many_at_once_go_in_few_batches_and_each_is_confirmed(
    kafka_settings: KafkaSettings,
) -> None:
    async with writer(kafka_settings) as a, writer(kafka_settings) as b:
        records = [client(f"c{n}", "x" * 200) for n in range(5000)]
        assert sum(map(len, map(encode_record, records))) > 2 * MAX_BATCH_BYTES
        ours, theirs = await asyncio.gather(
            a.add_all(records, soon()), b.add_all(records[::-1], soon())
        )
        assert all(one != other for one, other in zip(ours, theirs[::-1], strict=True))
        assert {*ours, *theirs} <= {True, False}
        assert await a.add_all(records[:10], soon()) == [False] * 10
        await b.tailer.catch_up(20)
        for number in (0, 17, 4999):
            assert a.get("client", f"c{number}") == b.get("client", f"c{number}")


@pytest.mark.parametrize("count", [50])
async def test_concurrent_writers_leave_the_current_record_last(
    kafka_settings: KafkaSettings, count: int
) -> None:
    async with writer(kafka_settings) as a, writer(kafka_settings) as b:
        added = await asyncio.gather(
            *(
                registry.add(client(f"c{n}", name), soon())
                for n in range(count)
                for name, registry in (("a", a), ("b", b))
            )
        )
        pairs = list(zip(added[::2], added[1::2], strict=True))
        assert all(first != second for first, second in pairs)
        async with asyncio.timeout(20):
            while await last_records(kafka_settings) != {
                entity_key("client", f"c{n}"): a.get("client", f"c{n}") for n in range(count)
            }:
                await a.tailer.catch_up(10)
        for number, (a_won, _) in enumerate(pairs):
            record = a.get("client", f"c{number}")
            assert record is not None
            assert record == b.get("client", f"c{number}")
            assert record.name == ("a" if a_won else "b")


async def test_the_superseded_record_of_a_dead_writer_is_repaired(
    kafka_settings: KafkaSettings,
) -> None:
    async with writer(kafka_settings) as dead:
        assert await dead.add(client("c", "current"), soon())
        # Like a writer that wrote at the same time and died before it read the record back.
        await dead._sender.send(
            topics_from(kafka_settings).registry.name,
            b'{"version":1,"kind":"client","id":"c","revision":1,"name":"superseded"}',
            partition=0,
            key=entity_key("client", "c"),
        )
    async with writer(kafka_settings, heal_after=0.1) as living:
        async with asyncio.timeout(20):
            while (await last_records(kafka_settings))[b"client:c"].name != "current":
                await living.tailer.catch_up(10)
        record = living.get("client", "c")
        assert record is not None
        assert record.name == "current"
