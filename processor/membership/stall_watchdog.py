"""Rule 7, second part: a worker that was frozen past its session ends itself."""

import asyncio
from collections.abc import Callable

from service.clock import uptime
from service.tasks import abort

TICK_INTERVAL = 0.1
"""Seconds between ticks."""


class StallWatchdog:
    """Ends the process if its ticks stop for half a session."""

    def __init__(self, session: float, clock: Callable[[], float] = uptime) -> None:
        self._limit = session / 2
        self._clock = clock
        self._ticked_at = clock()

    def seconds_since_tick(self) -> float:
        """Return the seconds since the last tick."""
        return self._clock() - self._ticked_at

    def check(self) -> None:
        """End the process if it was frozen, as another worker may have its partitions."""
        age = self.seconds_since_tick()
        if age > self._limit:
            abort("the worker was frozen, its partitions may be lost", seconds=round(age, 1))

    def tick(self) -> None:
        self.check()
        self._ticked_at = self._clock()

    async def run(self) -> None:
        """Tick forever, starting now: waiting for Kafka at startup is not a freeze."""
        self._ticked_at = self._clock()
        while True:
            self.tick()
            await asyncio.sleep(TICK_INTERVAL)
