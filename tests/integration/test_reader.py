"""Topic tailers on a real Kafka: `catch_up` returns after acknowledged records were read."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import ReaderError, TopicReader
from service.kafka.tailer import KafkaUnreachableError, TopicTailer
from service.kafka.topics import ensure_topics, topics_from
from tobogganing.devstack.cluster import Cluster


class SeenRecords:
    """A tailer's `apply`: the values of each partition, in order."""

    def __init__(self) -> None:
        self.values: dict[int, list[int]] = {}

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        numbers = [int(record.value) for record in records]
        self.values.setdefault(partition, []).extend(numbers)


@contextlib.asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@contextlib.asynccontextmanager
async def following(
    settings: KafkaSettings, topic: str, seen: SeenRecords
) -> AsyncIterator[TopicTailer]:
    tailer = TopicTailer(settings, topic, range(settings.kafka_partitions), seen.apply)
    running = asyncio.create_task(tailer.run())
    try:
        yield tailer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_acknowledged_records_have_been_read(kafka_settings: KafkaSettings) -> None:
    topic = (await ensure_topics(kafka_settings)).entity_state.name
    seen = SeenRecords()
    async with (
        producing(kafka_settings) as producer,
        following(kafka_settings, topic, seen) as tailer,
    ):
        for number in range(40):
            partition = number % kafka_settings.kafka_partitions
            await producer.send_and_wait(
                topic, b"%d" % number, key=b"k%d" % number, partition=partition
            )
            await tailer.catch_up(10)
            assert seen.values[partition][-1] == number
    assert sorted(itertools.chain.from_iterable(seen.values.values())) == list(range(40))


async def test_a_tailer_waits_for_kafka_that_is_not_there_when_it_starts(
    own_kafka: Cluster, own_settings: KafkaSettings
) -> None:
    topic = (await ensure_topics(own_settings)).entity_state.name
    async with producing(own_settings) as producer:
        await producer.send_and_wait(topic, b"7", key=b"k", partition=0)
    await own_kafka.brokers[0].kill()
    seen = SeenRecords()
    async with following(own_settings, topic, seen) as tailer:
        with pytest.raises(KafkaUnreachableError):
            await tailer.catch_up(2)
        own_kafka.brokers[0].launch()
        await own_kafka.wait_until_ready()
        await tailer.catch_up(30)
        assert seen.values == {0: [7]}


async def test_existing_records_are_read_before_it_is_caught_up(
    kafka_settings: KafkaSettings,
) -> None:
    topic = (await ensure_topics(kafka_settings)).entity_state.name
    async with producing(kafka_settings) as producer:
        sent = [
            await producer.send(topic, b"%d" % number, key=b"k%d" % number, partition=number % 4)
            for number in range(5_000)
        ]
        await asyncio.gather(*sent)
    seen = SeenRecords()
    async with following(kafka_settings, topic, seen) as tailer:
        assert not tailer.caught_up
        async with asyncio.timeout(20):
            while not tailer.caught_up:
                await tailer.catch_up(10)
        assert sum(map(len, seen.values.values())) == 5_000
        assert not any(tailer.lag().values())
        assert tailer.is_reachable()


async def test_concurrent_callers_share_requests_and_none_waits_for_a_long_poll(
    kafka_settings: KafkaSettings,
) -> None:
    topic = (await ensure_topics(kafka_settings)).entity_state.name
    async with following(kafka_settings, topic, SeenRecords()) as tailer:
        await tailer.catch_up(10)
        quickest = float("inf")
        for _ in range(5):
            began = time.monotonic()
            await asyncio.gather(*(tailer.catch_up(10) for _ in range(500)))
            quickest = min(quickest, time.monotonic() - began)
        assert quickest < 0.3, "the reader's fetch waits for half a second without new records"


async def test_catching_up_fails_during_an_outage_of_kafka(
    own_kafka: Cluster, own_settings: KafkaSettings
) -> None:
    topic = (await ensure_topics(own_settings)).entity_state.name
    seen = SeenRecords()
    async with following(own_settings, topic, seen) as tailer:
        await tailer.catch_up(10)
        await own_kafka.brokers[0].kill()
        began = time.monotonic()
        with pytest.raises(KafkaUnreachableError):
            await tailer.catch_up(2)
        assert time.monotonic() - began < 6
        own_kafka.brokers[0].launch()
        await own_kafka.wait_until_ready()
        async with producing(own_settings) as producer:
            await producer.send_and_wait(topic, b"7", key=b"k", partition=0)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(KafkaUnreachableError):
                    await tailer.catch_up(5)
                    break
        assert seen.values == {0: [7]}


async def test_reading_to_the_end_from_given_starts(kafka_settings: KafkaSettings) -> None:
    topic = (await ensure_topics(kafka_settings)).entity_state.name
    async with producing(kafka_settings) as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"%d" % number, key=b"k", partition=1)
    seen = SeenRecords()
    async with TopicReader(kafka_settings, topic, range(4)) as reader:
        ends = await reader.read_to_end(seen.apply, {1: 6})
    assert ends == {0: 0, 1: 10, 2: 0, 3: 0}
    assert seen.values == {1: [6, 7, 8, 9]}


async def test_a_reader_whose_fetcher_has_ended_raises(kafka_settings: KafkaSettings) -> None:
    """aiokafka's `getmany` would return nothing forever."""
    topic = (await ensure_topics(kafka_settings)).entity_state.name
    async with TopicReader(kafka_settings, topic, [0]) as reader:
        reader.seek({0: 0})
        await reader.poll(SeenRecords().apply)
        fetcher = reader._consumer._fetcher._fetch_task
        fetcher.cancel()
        await asyncio.wait([fetcher])
        with pytest.raises(ReaderError, match="fetcher"):
            await reader.poll(SeenRecords().apply)


async def test_a_stop_during_a_fetch(kafka_settings: KafkaSettings) -> None:
    """aiokafka's `stop` raises CancelledError in that case and leaves its connections open."""
    await ensure_topics(kafka_settings)
    async with TopicReader(kafka_settings, topics_from(kafka_settings).audit.name, [0]) as reader:
        reader.seek(await reader.end_offsets())
        await reader.poll(lambda *_: None)
        consumer = reader._consumer
        assert consumer._fetcher._pending_tasks
    assert not consumer._client._conns or not any(
        connection.connected() for connection in consumer._client._conns.values()
    )
