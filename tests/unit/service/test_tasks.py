"""Errors of tasks that run together."""

import asyncio

import pytest

from service.tasks import TaskEndedError, first_error, run_together


async def fail(error: Exception) -> None:
    raise error


async def in_groups(*errors: Exception) -> None:
    async with asyncio.TaskGroup() as outer:
        outer.create_task(asyncio.sleep(0))
        async with asyncio.TaskGroup() as inner:
            for error in errors:
                inner.create_task(fail(error))


async def test_the_first_error_is_raised_without_its_groups() -> None:
    error = KeyError("it")
    with pytest.raises(KeyError) as raised, first_error(KeyError, OSError):
        await in_groups(error, ValueError("beside it"))
    assert raised.value is error


async def test_errors_of_other_kinds_are_not_changed() -> None:
    with pytest.raises(ExceptionGroup), first_error(KeyError):
        await in_groups(ValueError("another"))
    with pytest.raises(ValueError, match="alone"), first_error(KeyError):
        raise ValueError("alone")
    with first_error(KeyError):
        await in_groups()


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
