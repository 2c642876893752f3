"""Long work on the event loop, done in slices: other requests run between two of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

SLICE_SECONDS = 0.005
"""How long one slice may block the event loop: the step that exceeds it is the last one."""

T = TypeVar("T")


async def in_slices(steps: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over `steps`, and yield to the event loop after every slice.

    What the caller does between two steps counts towards the slice.
    """
    began = time.perf_counter()
    for step in steps:
        yield step
        if time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()
