"""Errors of tasks that run together."""

import asyncio

import pytest

from service.tasks import TaskEndedError, run_together


async def fail(error: Exception) -> None:
    raise error


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")


async def test_the_first_error_of_tasks_that_run_together_ends_them_all() -> None:
    error, ended = KeyError("it"), list[str]()
    with pytest.raises(KeyError) as raised:
        await run_together(forever(ended), fail(error))
    assert raised.value is error
    assert ended == ["cancelled"]


@pytest.mark.parametrize("error", [None, asyncio.CancelledError()])
async def test_a_task_that_ends_without_an_error_is_an_error(error: BaseException | None) -> None:
    async def end() -> None:
        await asyncio.sleep(0)
        if error is not None:
            raise error

    ended: list[str] = []
    with pytest.raises(TaskEndedError, match="end"):
        await run_together(forever(ended), end())
    assert ended == ["cancelled"]


async def test_cancelling_run_together_cancels_each_task() -> None:
    ended: list[str] = []
    running = asyncio.create_task(run_together(forever(ended), forever(ended)))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["cancelled"] * 2
