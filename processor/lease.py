"""Rule 7, second part: a worker that was frozen past its session ends itself."""

import asyncio
import time
from collections.abc import Callable

from service.tasks import die

TICK = 0.1
"""Seconds between two ticks."""


def awake_clock() -> float:
    """Seconds on a clock that also counts while the machine sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """Renewed by a ticker; not renewed for half a session means that the process stood still."""

    def __init__(self, session: float, clock: Callable[[], float] = awake_clock) -> None:
        self._limit = session / 2
        self._clock = clock
        self._renewed = clock()

    def age(self) -> float:
        """Seconds since the last tick."""
        return self._clock() - self._renewed

    def check(self) -> None:
        """End the process if the lease has run out: its partitions may be another's by now."""
        age = self.age()
        if age > self._limit:
            die("the worker stood still, its partitions may be lost", seconds=round(age, 1))

    def renew(self) -> None:
        self.check()
        self._renewed = self._clock()

    async def run(self) -> None:
        """Tick for ever, from now: a start that had to wait for Kafka is no standstill."""
        self._renewed = self._clock()
        while True:
            self.renew()
            await asyncio.sleep(TICK)
