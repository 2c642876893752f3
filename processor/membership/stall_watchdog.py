"""Rule 7, second part: a worker that was frozen past its session ends itself."""

import asyncio
import time
from collections.abc import Callable

from service.tasks import abort

TICK_INTERVAL = 0.1
"""Seconds between two ticks."""


def boot_time() -> float:
    """Seconds on a clock that also counts while the machine sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class StallWatchdog:
    """Renewed by a ticker; not renewed for half a session means that the process stood still."""

    def __init__(self, session: float, clock: Callable[[], float] = boot_time) -> None:
        self._limit = session / 2
        self._clock = clock
        self._ticked_at = clock()

    def seconds_since_tick(self) -> float:
        """Seconds since the last tick."""
        return self._clock() - self._ticked_at

    def check(self) -> None:
        """End the process if the lease has run out: its partitions may be another's by now."""
        age = self.seconds_since_tick()
        if age > self._limit:
            abort("the worker stood still, its partitions may be lost", seconds=round(age, 1))

    def tick(self) -> None:
        self.check()
        self._ticked_at = self._clock()

    async def run(self) -> None:
        """Tick for ever, from now: a start that had to wait for Kafka is no standstill."""
        self._ticked_at = self._clock()
        while True:
            self.tick()
            await asyncio.sleep(TICK_INTERVAL)
