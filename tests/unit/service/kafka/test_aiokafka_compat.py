"""The private parts of aiokafka are those that `aiokafka_compat` was written for."""

import importlib.metadata
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch

from service.kafka import aiokafka_compat
from service.kafka.aiokafka_compat.consumer import (
    client_of,
    set_fetch_limits,
    set_fetch_max_wait,
)
from service.kafka.aiokafka_compat.consumer_tasks import ConsumerTasks, ended_tasks
from service.kafka.aiokafka_compat.coordinator import (
    FencedInstanceIdError,
    coordinator_of,
    register_error_codes,
)
from service.kafka.aiokafka_compat.producer import abandon


def test_the_version_is_the_pinned_one() -> None:
    assert importlib.metadata.version("aiokafka") == aiokafka_compat.WRITTEN_FOR


def test_a_fenced_instance_id_has_its_own_error() -> None:
    register_error_codes()
    assert errors.for_code(82) is FencedInstanceIdError
    assert "FencedInstanceIdError" in repr(errors.KafkaError(repr(FencedInstanceIdError())))


@pytest.fixture
async def consumer() -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer("t", bootstrap_servers="localhost:1", group_id="g")
    for name in ("_fetch_max_wait_ms", "_subscription", "_client", "_closed"):
        assert hasattr(consumer, name)
    set_fetch_max_wait(consumer, 300)
    yield consumer
    await consumer.stop()


async def test_a_consumer_has_the_private_parts_that_are_used(consumer: AIOKafkaConsumer) -> None:
    from aiokafka.consumer.fetcher import Fetcher
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    assert not ConsumerTasks(consumer).is_open
    assert [*ended_tasks(consumer)] == []
    client, subscription = client_of(consumer), consumer._subscription
    consumer._coordinator = GroupCoordinator(client, subscription, group_id="g")
    consumer._fetcher = Fetcher(client, subscription)
    for name in ("_fetch_min_bytes", "_fetch_max_wait_ms"):
        assert hasattr(consumer._fetcher, name)
    set_fetch_limits(consumer, 1000, 80)
    assert coordinator_of(consumer) is consumer._coordinator
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


async def test_a_producer_has_the_private_parts_that_are_used() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="localhost:1")
    assert producer._sender.sender_task is None
    assert producer._message_accumulator._pending_batches == set()
    assert not producer._message_accumulator._batches
    batch = MessageBatch(TopicPartition("t", 0), BatchBuilder(1000, 0), 1.0, 0.0)
    producer._message_accumulator._pending_batches.add(batch)
    batch.drain_ready()
    delivered = batch.future
    await abandon(producer)
    assert isinstance(delivered.exception(), errors.ProducerClosed)
    assert batch._drain_waiter.done()
    await producer.stop()
