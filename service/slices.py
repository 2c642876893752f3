"""Runs long work on the event loop in slices, so that requests are served in between."""

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

SLICE_SECONDS = 0.005
"""Maximum seconds of a slice; the step that exceeds it is its last one."""

T = TypeVar("T")


class Slices:
    """Runs long work of several requests, one slice at a time.

    After each slice all long work pauses for the duration of the slice, so it uses at most half of
    the event loop's time.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def run(self, steps: Iterable[T | None], deadline: float) -> list[T]:
        """Run `steps` to its end; return its items without None.

        A step that yields None has used time without a result.

        Raises:
            TimeoutError: it was not finished by the deadline, which is on the monotonic clock.
        """
        results: list[T] = []
        remaining = iter(steps)
        async with asyncio.timeout(deadline - time.monotonic()):
            while not await self._run_slice(remaining, results):
                pass
        return results

    async def _run_slice(self, remaining: Iterable[T | None], results: list[T]) -> bool:
        """Run one slice; return whether the work is finished."""
        async with self._lock:
            began = time.perf_counter()
            try:
                for step in remaining:
                    if step is not None:
                        results.append(step)
                    if time.perf_counter() - began > SLICE_SECONDS:
                        return False
                return True
            finally:
                took = time.perf_counter() - began
                if took > SLICE_SECONDS:
                    await asyncio.sleep(took)
