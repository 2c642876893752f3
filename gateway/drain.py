"""The drain rate: how fast Kafka takes what waits. Pure.

Whoever is refused because too much waits is told when there will be room, from what was measured,
and not from hope.
"""

import math

SPAN = 5.0
"""Seconds over which the rate is an average: what is older counts less and less."""
LEAST, MOST = 1, 30
"""Seconds that anybody is told to wait, where there is no rate either."""


class DrainRate:
    """An exponentially weighted rate. `now` is in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._recent = 0.0
        """Submissions that were taken, each weighted by its age: the rate times SPAN."""
        self._at = -math.inf

    def add(self, submissions: int, now: float) -> None:
        """Count what Kafka has acknowledged."""
        self._recent = self._decayed(now) + submissions
        self._at = now

    def per_second(self, now: float) -> float:
        return self._decayed(now) / SPAN

    def wait(self, submissions: int, now: float) -> int:
        """Whole seconds in which so many submissions leave at this rate."""
        rate = self.per_second(now)
        if rate * MOST <= submissions:
            return MOST
        return max(LEAST, math.ceil(submissions / rate))

    def _decayed(self, now: float) -> float:
        return self._recent * math.exp((self._at - now) / SPAN) if self._recent else 0.0
