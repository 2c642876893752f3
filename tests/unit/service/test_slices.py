"""Slices: long work leaves time to other tasks, and ends at its deadline."""

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


async def test_all_steps_run_in_order() -> None:
    assert await Slices().run(steps(30), soon()) == list(range(30))
    assert await Slices().run([], soon()) == []


async def test_other_tasks_run_between_slices() -> None:
    """Each slice is followed by a pause, so other tasks run as often as slices do."""
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
    assert used > 1.5 * 100 * STEP  # the other tasks had half of the time


async def test_work_of_several_requests_alternates() -> None:
    slices, ended = Slices(), []

    async def work(name: str, count: int) -> None:
        await slices.run(steps(count), soon())
        ended.append(name)

    await asyncio.gather(work("long", 200), work("short", 5))
    assert ended == ["short", "long"]


async def test_work_ends_at_the_deadline() -> None:
    slices = Slices()
    with pytest.raises(TimeoutError):
        await slices.run(steps(10_000), time.monotonic() + 0.05)
    assert await slices.run(steps(3), soon()) == [0, 1, 2]


async def test_an_error_is_raised_and_other_work_continues() -> None:
    def failing() -> Iterator[int]:
        yield from steps(8)
        raise ValueError("no")

    slices = Slices()
    results = await asyncio.gather(
        slices.run(failing(), soon()), slices.run(steps(8), soon()), return_exceptions=True
    )
    assert isinstance(results[0], ValueError)
    assert results[1] == list(range(8))
