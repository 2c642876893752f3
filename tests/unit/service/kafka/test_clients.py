"""Kafka clients: a consumer that cannot be stopped is abandoned."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.kafka import clients


async def hang() -> None:
    await asyncio.Event().wait()


async def cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("stop", "close"), [(hang, hang), (cancelled, hang)])
async def test_a_consumer_that_does_not_stop_is_left(
    monkeypatch: pytest.MonkeyPatch, stop: Any, close: Any
) -> None:
    monkeypatch.setattr(clients, "STOP_TIMEOUT", 0.05)
    consumer: Any = SimpleNamespace(stop=stop, _client=SimpleNamespace(close=close))
    async with asyncio.timeout(5):
        await clients.stop_consumer(consumer)
