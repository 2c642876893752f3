"""The events of a stream, taken in batches that are limited in bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from faust.types import EventT, StreamT

T = TypeVar("T")


async def take_events(
    stream: StreamT[T], size: Callable[[EventT[T]], int], most: int, within: float
) -> AsyncIterator[list[EventT[T]]]:
    """Yield, unacknowledged, the events of a stream that arrive within some seconds of the first.

    A batch ends with the event by which its total `size` exceeds `most`. While the caller processes
    it, the same amount is buffered. Faust's `noack_take` wakes every `within` seconds even without
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
