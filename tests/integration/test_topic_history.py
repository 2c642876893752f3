"""A topic whose records have changed is read again, on a real Kafka."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, client_options
from service.kafka.tailer import KafkaUnreachableError, TopicTailer
from service.kafka.topic_history import HistoryChangedError
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.gateways import frames_of, registered, running_gateways, submit
from tests.integration.processes import Service
from tests.waiting import eventually

PATIENCE = 30.0


class Values:
    """What a tailer has read since it was last cleared."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.cleared = 0
        self.tailer: TopicTailer | None = None

    def apply(self, _: int, records: Sequence[ConsumerRecord]) -> None:
        self.read += [record.value for record in records]

    def clear(self) -> None:
        assert self.tailer is not None
        assert not self.tailer.caught_up
        self.cleared += 1
        self.read = []


@contextlib.asynccontextmanager
async def following(settings: KafkaSettings, topic: str) -> AsyncIterator[Values]:
    values = Values()
    values.tailer = TopicTailer(settings, topic, [0], values.apply, clear=values.clear)
    running = asyncio.create_task(values.tailer.run())
    try:
        yield values
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def write(settings: KafkaSettings, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=value, partition=0)
    finally:
        await producer.stop()


async def delete(settings: KafkaSettings, topic: str) -> None:
    async with admin_client(settings) as admin:
        await admin.delete_topics([topic])
        async with asyncio.timeout(PATIENCE):
            while (await admin.describe_topics([topic]))[0]["error_code"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def caught_up(values: Values) -> None:
    assert values.tailer is not None
    async with asyncio.timeout(PATIENCE):
        while not values.tailer.caught_up:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_read(values: Values, wanted: list[bytes]) -> None:
    assert values.tailer is not None
    async with asyncio.timeout(PATIENCE):
        while not (values.tailer.caught_up and values.read == wanted):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(0, id="empty", marks=pytest.mark.long),
        pytest.param(1, id="shorter", marks=pytest.mark.long),
        pytest.param(3, id="as-long", marks=pytest.mark.long),
        pytest.param(7, id="longer"),
    ],
)
async def test_a_recreated_topic_is_read_from_its_start(
    kafka_settings: KafkaSettings, count: int
) -> None:
    topic = (await ensure_topics(kafka_settings)).registry.name
    await write(kafka_settings, topic, b"a", b"b", b"c")
    async with following(kafka_settings, topic) as values:
        await caught_up(values)
        assert values.read == [b"a", b"b", b"c"]
        await delete(kafka_settings, topic)
        await ensure_topics(kafka_settings)
        new = [b"%d" % number for number in range(count)]
        await write(kafka_settings, topic, *new)
        await until_read(values, new)
        assert values.cleared == 1
        await write(kafka_settings, topic, b"later")
        assert values.tailer is not None
        await values.tailer.catch_up(10)
        assert values.read == [*new, b"later"]
        assert values.cleared == 1


async def test_waiting_for_the_end_of_a_topic_fails_after_it_was_recreated(
    kafka_settings: KafkaSettings,
) -> None:
    topic = (await ensure_topics(kafka_settings)).registry.name
    await write(kafka_settings, topic, b"a", b"b", b"c")
    async with following(kafka_settings, topic) as values:
        await caught_up(values)
        assert values.tailer is not None
        await delete(kafka_settings, topic)
        await ensure_topics(kafka_settings)
        await write(kafka_settings, topic, b"x")
        async with asyncio.timeout(PATIENCE):
            while values.read != [b"x"]:
                with contextlib.suppress(KafkaUnreachableError):
                    await values.tailer.catch_up(1)
                    assert values.read == [b"x"]


async def test_a_tailer_that_cannot_clear_its_state_ends(kafka_settings: KafkaSettings) -> None:
    """Its process restarts and reads the topic from the start."""
    topic = (await ensure_topics(kafka_settings)).registry.name
    await write(kafka_settings, topic, b"a", b"b", b"c")
    read: list[bytes] = []
    tailer = TopicTailer(
        kafka_settings, topic, [0], lambda _, records: read.extend(r.value for r in records)
    )
    running = asyncio.create_task(tailer.run())
    async with asyncio.timeout(PATIENCE):
        while not tailer.caught_up:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await delete(kafka_settings, topic)
    await ensure_topics(kafka_settings)
    with pytest.raises((HistoryChangedError, KafkaError)):
        async with asyncio.timeout(PATIENCE):
            await running


async def test_gateways_reread_a_recreated_registry(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """A reused offset is not the incarnation of another registration."""
    topic = topics_from(kafka_settings).registry.name
    async with running_gateways(kafka_settings, tmp_path, signing_keys, 2) as services:
        old = await registered(services[0], "c")
        other = await registered(services[0], "other")
        assert (await submit(services[1], "c", old, 1)).status_code == 200
        await delete(kafka_settings, topic)
        await ensure_topics(kafka_settings)
        for service in services:

            async def has_forgotten(service: Service = service) -> bool:
                statuses = [
                    (await submit(service, id, headers, 2)).status_code
                    for id, headers in (("c", old), ("other", other))
                ]
                return statuses == [401, 401]

            await eventually(has_forgotten)
            await service.wait_until_ready()
        new = await registered(services[0], "c")
        for service in services:
            assert (await submit(service, "c", new, 3)).status_code == 200
            assert (await submit(service, "c", old, 4)).status_code == 401
            assert "reading the topic from its beginning" in service.log()
            assert not service.faults(), "it did not end"
    incarnations = {1: set[int](), 3: set[int]()}
    for frame, _ in (await frames_of(kafka_settings)).values():
        for each in frame.submissions:
            incarnations.setdefault(int(each.metrics["bytes_sent"]), set()).add(each.incarnation)
    assert 4 not in incarnations
    (first,), (second,) = incarnations[1], incarnations[3]
    assert second > first
