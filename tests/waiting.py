"""Waits for a condition that depends on other processes."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 40.0
POLL = 0.02


async def pause(seconds: float = 0.1) -> None:
    """Wait a little between two looks at other processes. A loop without it takes a whole core,
    which those processes need."""
    await asyncio.sleep(seconds)


async def eventually(condition: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not hold within `patience` seconds.
    """
    try:
        async with asyncio.timeout(patience):
            while not await condition():  # noqa: ASYNC110 (other processes notify nobody)
                await asyncio.sleep(POLL)
    except TimeoutError:
        name = getattr(condition, "__qualname__", condition)
        raise AssertionError(f"{name} did not hold within {patience:g} s") from None
