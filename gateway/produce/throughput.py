"""The drain rate: how fast Kafka takes what waits. Pure.

Whoever is refused because too much waits is told when there will be room, from what was measured,
and not from hope.
"""

import math

AVERAGING_SECONDS = 5.0
"""Seconds over which the rate is an average: what is older counts less and less."""
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 1, 30
"""Seconds that anybody is told to wait, where there is no rate either."""


class ThroughputEstimator:
    """An exponentially weighted rate. `now` is in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._weighted_count = 0.0
        """Submissions that were taken, each weighted by its age: the rate times SPAN."""
        self._updated_at = -math.inf

    def add(self, submissions: int, now: float) -> None:
        """Count what Kafka has acknowledged."""
        self._weighted_count = self._decayed(now) + submissions
        self._updated_at = now

    def per_second(self, now: float) -> float:
        return self._decayed(now) / AVERAGING_SECONDS

    def retry_after(self, submissions: int, now: float) -> int:
        """Whole seconds in which so many submissions leave at this rate."""
        rate = self.per_second(now)
        if rate * MAX_RETRY_AFTER <= submissions:
            return MAX_RETRY_AFTER
        return max(MIN_RETRY_AFTER, math.ceil(submissions / rate))

    def _decayed(self, now: float) -> float:
        return (
            self._weighted_count * math.exp((self._updated_at - now) / AVERAGING_SECONDS)
            if self._weighted_count
            else 0.0
        )
