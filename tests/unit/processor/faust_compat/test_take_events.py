"""Taking events: without delay, together, and limited in size."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from processor.faust_compat.events import take_events


class ManualStream:
    """The part of Faust's stream that the code uses; a test adds events."""

    enable_acks = True
    current_event: Any = None

    def __init__(self) -> None:
        self.channel = self
        self.is_passive = False

    def __aiter__(self) -> "ManualStream":
        return self

    async def __anext__(self) -> Any:
        raise StopAsyncIteration

    def add_processor(self, processor: Any) -> None:
        self._processor = processor

    def _enable_passive(self, channel: Any) -> None:
        self.is_passive = True

    async def put(self, number: int) -> None:
        self.current_event = SimpleNamespace(number=number)
        await self._processor(number)


MOST = 3


@pytest.fixture
async def stream() -> ManualStream:
    return ManualStream()


@pytest.fixture
async def taken(stream: ManualStream) -> AsyncIterator[AsyncIterator[list[Any]]]:
    events = take_events(cast(Any, stream), lambda _: 1, MOST, within=0.02)
    yield events
    with contextlib.suppress(RuntimeError):
        await cast(Any, events).aclose()


async def numbers(taken: AsyncIterator[list[Any]]) -> list[int]:
    async with asyncio.timeout(5):
        return [event.number for event in await anext(taken)]


async def test_events_that_arrive_together_are_taken_together(
    stream: ManualStream, taken: AsyncIterator[list[Any]]
) -> None:
    first = asyncio.create_task(numbers(taken))
    await asyncio.sleep(0)
    assert stream.is_passive
    assert not stream.enable_acks
    await stream.put(0)
    await stream.put(1)
    assert await first == [0, 1]
    await stream.put(2)
    assert await numbers(taken) == [2]


async def test_one_batch_is_buffered_and_further_events_wait(
    stream: ManualStream, taken: AsyncIterator[list[Any]]
) -> None:
    first = asyncio.create_task(numbers(taken))
    await asyncio.sleep(0)
    await stream.put(0)
    assert await first == [0]
    for number in range(1, MOST + 1):
        await stream.put(number)
    late = asyncio.create_task(stream.put(MOST + 1))
    await asyncio.sleep(0)
    assert not late.done()
    assert await numbers(taken) == [1, 2, 3]
    await late
    assert await numbers(taken) == [MOST + 1]


async def test_a_full_batch_does_not_wait(stream: ManualStream) -> None:
    taken = take_events(cast(Any, stream), lambda _: 1, MOST, within=3600)
    first = asyncio.create_task(numbers(taken))
    await asyncio.sleep(0)
    for number in range(MOST):
        await stream.put(number)
    assert await first == [0, 1, 2]
    await cast(Any, taken).aclose()
