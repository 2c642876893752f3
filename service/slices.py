"""Long work on the event loop, done in slices: requests are served between two of them."""

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

SLICE_SECONDS = 0.005
"""How long one slice may block the event loop: the step that exceeds it is the last one."""

T = TypeVar("T")


class Slices:
    """Runs long work of several requests in slices, one slice at a time.

    After each slice all of it pauses for as long as the slice took. So however many requests bring
    such work, it takes at most half of the event loop's time.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def run(self, steps: Iterable[T | None], deadline: float) -> list[T]:
        """Return all `steps`, each of which is made by advancing to it.

        A step that is None is left out: it has taken time, and made nothing yet.

        Raises:
            TimeoutError: it took until the deadline, which is on the monotonic clock.
        """
        made: list[T] = []
        remaining = iter(steps)
        async with asyncio.timeout(deadline - time.monotonic()):
            while not await self._run_slice(remaining, made):
                pass
        return made

    async def _run_slice(self, remaining: Iterable[T | None], made: list[T]) -> bool:
        """Run one slice; tell whether it was the last one."""
        async with self._lock:
            began = time.perf_counter()
            try:
                for step in remaining:
                    if step is not None:
                        made.append(step)
                    if time.perf_counter() - began > SLICE_SECONDS:
                        return False
                return True
            finally:
                took = time.perf_counter() - began
                if took > SLICE_SECONDS:
                    await asyncio.sleep(took)
