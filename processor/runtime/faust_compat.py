"""Private parts of Faust that the processor uses. Written for faust-streaming 0.15.3, pinned.

`tests/unit/processor/test_compat.py` fails when a part no longer exists; the integration tests of
the processor fail when it behaves otherwise.
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
    """The consumer of Faust's consumer thread; None before it has started.

    `app.consumer` makes one where there is none, so it is not read here.
    """
    consumer = app._consumer
    return None if consumer is None else consumer._thread._consumer


def group_coordinator(app: AppT[Any]) -> Any:
    """aiokafka's coordinator of the group, which a join was just made by."""
    return app.consumer._thread._consumer._coordinator


def request_rejoin(app: AppT[Any], delay: float) -> None:
    """Join the group again, `delay` seconds from now."""
    loop = app.consumer._thread.thread_loop
    loop.call_soon_threadsafe(loop.call_later, delay, group_coordinator(app).request_rejoin)


def consumer_loop(app: AppT[Any]) -> asyncio.AbstractEventLoop | None:
    """The event loop of Faust's consumer thread; None before it has been made."""
    consumer = app._consumer
    return None if consumer is None else consumer._thread.thread_loop


async def take_events(
    stream: StreamT[T], size: Callable[[EventT[T]], int], most: int, within: float
) -> AsyncIterator[list[EventT[T]]]:
    """Yield events of a stream that came within some seconds of the first, unacknowledged.

    At most `most` by their `size`, and one more. While the caller has some, as many again are
    buffered. Faust's `noack_take` wakes every `within` seconds though nothing has come, and bounds
    events only by their number.
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
