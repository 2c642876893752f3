"""Exception groups, unwrapped."""

import asyncio

import pytest

from tools.first_error import first_error


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
