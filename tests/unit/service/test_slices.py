"""Slices: long work of several requests leaves the event loop to others, and ends in time."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from service.slices import SLICE_SECONDS, Slices

STEP = SLICE_SECONDS / 5


def steps(count: int) -> Iterator[int]:
    for number in range(count):
        end = time.perf_counter() + STEP
        while time.perf_counter() < end:
            pass
        yield number


def soon() -> float:
    return time.monotonic() + 30


async def test_all_steps_are_made_in_order() -> None:
    assert await Slices().run(steps(30), soon()) == list(range(30))
    assert await Slices().run([], soon()) == []


async def test_others_run_between_slices_of_however_many() -> None:
    """Each slice is followed by a pause, whoever is next: so there are as many turns as slices."""
    slices, turns = Slices(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    began = time.thread_time()
    await asyncio.gather(*(slices.run(steps(10), soon()) for _ in range(10)))
    used = time.thread_time() - began
    other.cancel()
    assert turns > 20
    assert used > 1.5 * 100 * STEP  # half of the time was the others'


async def test_work_takes_turns() -> None:
    slices, ended = Slices(), []

    async def work(name: str, count: int) -> None:
        await slices.run(steps(count), soon())
        ended.append(name)

    await asyncio.gather(work("long", 200), work("short", 5))
    assert ended == ["short", "long"]


async def test_it_ends_at_the_deadline() -> None:
    slices = Slices()
    with pytest.raises(TimeoutError):
        await slices.run(steps(10_000), time.monotonic() + 0.05)
    assert await slices.run(steps(3), soon()) == [0, 1, 2]


async def test_an_error_is_raised_and_others_go_on() -> None:
    def failing() -> Iterator[int]:
        yield from steps(8)
        raise ValueError("no")

    slices = Slices()
    results = await asyncio.gather(
        slices.run(failing(), soon()), slices.run(steps(8), soon()), return_exceptions=True
    )
    assert isinstance(results[0], ValueError)
    assert results[1] == list(range(8))
