"""The private parts of libraries are those that the compat modules were written for."""

import importlib.metadata

import pytest
from aiokafka import AIOKafkaConsumer, errors
from faust.streams import Stream
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer

from processor.runtime import faust_compat
from service.kafka import aiokafka_compat
from service.kafka.aiokafka_compat import ConsumerTasks, FencedInstanceIdError, ended_tasks


def test_versions_are_the_pinned_ones() -> None:
    assert importlib.metadata.version("aiokafka") == aiokafka_compat.WRITTEN_FOR
    assert importlib.metadata.version("faust-streaming") == faust_compat.WRITTEN_FOR


def test_a_fenced_instance_id_has_its_own_error() -> None:
    aiokafka_compat.register_error_codes()
    assert errors.for_code(82) is FencedInstanceIdError
    assert "FencedInstanceIdError" in repr(errors.KafkaError(repr(FencedInstanceIdError())))


@pytest.fixture
async def consumer() -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer("t", bootstrap_servers="localhost:1", group_id="g")
    for name in ("_fetch_max_wait_ms", "_subscription", "_client", "_closed"):
        assert hasattr(consumer, name)
    aiokafka_compat.set_fetch_max_wait(consumer, 300)
    return consumer


async def test_a_consumer_has_the_private_parts_that_are_used(consumer: AIOKafkaConsumer) -> None:
    from aiokafka.consumer.fetcher import Fetcher
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    assert not ConsumerTasks(consumer).is_open
    assert [*ended_tasks(consumer)] == []
    client, subscription = consumer._client, consumer._subscription
    consumer._coordinator = GroupCoordinator(client, subscription, group_id="g")
    consumer._fetcher = Fetcher(client, subscription)
    for name in ("_fetch_min_bytes", "_fetch_max_wait_ms"):
        assert hasattr(consumer._fetcher, name)
    aiokafka_compat.set_fetch_limits(consumer, 1000, 80)
    tasks = ConsumerTasks(consumer)
    assert tasks.is_open
    assert [*tasks.ended()] == []
    assert tasks.pending_error() is None
    error = errors.KafkaError("[Error -1] UnknownError")
    waiting = consumer._coordinator._push_error_to_user(error)
    assert repr(tasks.pending_error()) == repr(error)
    tasks.retry()
    await waiting
    assert tasks.pending_error() is None
    await consumer._fetcher.close()
    await consumer._coordinator.close()


def test_faust_has_the_private_parts_that_are_used() -> None:
    names = ("_consumer", "_commit", "_create_worker_consumer", "_fetch_records", "commit")
    for name in (*names, "getmany"):
        assert hasattr(AIOKafkaConsumerThread, name)
    for name in ("_new_offset", "_add_gap", "_commit"):
        assert hasattr(Consumer, name)
    for name in ("_enable_passive", "add_processor", "current_event", "enable_acks"):
        assert hasattr(Stream, name)
