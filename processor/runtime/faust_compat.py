"""Private parts of Faust that the processor uses. Written for faust-streaming 0.15.3, pinned.

`tests/unit/processor/test_compat.py` fails if a part no longer exists; the integration tests of the
processor fail if a part behaves differently.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from faust.types import AppT, EventT, StreamT

T = TypeVar("T")

WRITTEN_FOR = "0.15.3"


def kafka_consumer(app: AppT[Any]) -> AIOKafkaConsumer | None:
    """Return the consumer of Faust's consumer thread, None before it has started.

    Reads `app._consumer`, because `app.consumer` would create one.
    """
    consumer = app._consumer
    return None if consumer is None else consumer._thread._consumer


def group_coordinator(app: AppT[Any]) -> Any:
    """Return aiokafka's group coordinator; call it after a join."""
    return app.consumer._thread._consumer._coordinator


def request_rejoin(app: AppT[Any], delay: float) -> None:
    """Join the group again in `delay` seconds."""
    loop = app.consumer._thread.thread_loop
    loop.call_soon_threadsafe(loop.call_later, delay, group_coordinator(app).request_rejoin)


def consumer_loop(app: AppT[Any]) -> asyncio.AbstractEventLoop | None:
    """Return the event loop of Faust's consumer thread, None before it exists."""
    consumer = app._consumer
    return None if consumer is None else consumer._thread.thread_loop


async def take_events(
    stream: StreamT[T], size: Callable[[EventT[T]], int], most: int, within: float
) -> AsyncIterator[list[EventT[T]]]:
    """Yield, unacknowledged, the events of a stream that arrive within some seconds of the first.

    A batch has at most `most` by their `size`, and one more event. While the caller processes it,
    the same amount is buffered. Faust's `noack_take` wakes every `within` seconds even without
    events, and limits only their number.
    """
    buffer: list[EventT[T]] = []
    buffered = 0
    arrived, full, free = asyncio.Event(), asyncio.Event(), asyncio.Event()
    free.set()

    async def add(value: T) -> T:
        nonlocal buffered
        await free.wait()
        event = stream.current_event
        assert event is not None
        buffer.append(event)
        buffered += size(event)
        arrived.set()
        if buffered >= most:
            full.set()
            free.clear()
        return value

    stream.enable_acks = False
    stream.add_processor(add)
    stream._enable_passive(aiter(stream.channel))
    while True:
        await arrived.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await full.wait()
        events = buffer.copy()
        buffer.clear()
        buffered = 0
        arrived.clear()
        full.clear()
        free.set()
        yield events
