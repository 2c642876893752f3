"""The consumer thread of a Faust application: its consumer, its coordinator, its event loop."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.types import AppT

from service.kafka.aiokafka_compat.coordinator import coordinator_of


def kafka_consumer(app: AppT[Any]) -> AIOKafkaConsumer | None:
    """Return the consumer of Faust's consumer thread, None before it has started.

    Reads `app._consumer`, because `app.consumer` would create one.
    """
    consumer = app._consumer
    return None if consumer is None else consumer._thread._consumer


def group_coordinator(app: AppT[Any]) -> Any:
    """Return aiokafka's group coordinator; call it after a join."""
    return coordinator_of(app.consumer._thread._consumer)


def request_rejoin(app: AppT[Any], delay: float) -> None:
    """Join the group again in `delay` seconds."""
    loop = app.consumer._thread.thread_loop
    loop.call_soon_threadsafe(loop.call_later, delay, group_coordinator(app).request_rejoin)


def consumer_loop(app: AppT[Any]) -> asyncio.AbstractEventLoop | None:
    """Return the event loop of Faust's consumer thread, None before it exists."""
    consumer = app._consumer
    return None if consumer is None else consumer._thread.thread_loop
