"""A context that connects to Kafka is entered again until Kafka responds."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiokafka.errors import KafkaConnectionError

from service.kafka import clients
from service.kafka.clients import when_reachable


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "RECONNECT_DELAY", 0)


class Kafka:
    """Fails until the third connection."""

    def __init__(self) -> None:
        self.attempts = self.closed = 0

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[int]:
        self.attempts += 1
        if self.attempts < 3:
            raise KafkaConnectionError("no broker")
        try:
            yield self.attempts
        finally:
            self.closed += 1


async def test_it_connects_until_kafka_responds() -> None:
    kafka = Kafka()
    async with when_reachable(kafka.connect) as attempt:
        assert (attempt, kafka.closed) == (3, 0)
    assert (kafka.attempts, kafka.closed) == (3, 1)


async def test_an_error_after_that_is_raised() -> None:
    kafka = Kafka()
    with pytest.raises(KafkaConnectionError, match="later"):
        async with when_reachable(kafka.connect):
            raise KafkaConnectionError("later")
    assert (kafka.attempts, kafka.closed) == (3, 1)


async def test_other_errors_are_raised() -> None:
    @contextlib.asynccontextmanager
    async def wrong() -> AsyncIterator[None]:
        raise ValueError("wrong")
        yield

    with pytest.raises(ValueError, match="wrong"):
        async with when_reachable(wrong):
            pass
