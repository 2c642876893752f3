"""Estimates how fast Kafka accepts submissions, and computes Retry-After from it. Pure."""

import math

AVERAGING_SECONDS = 5.0
"""Time constant of the average in seconds; older acknowledgements count exponentially less."""
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 1, 30
"""Bounds of Retry-After in seconds; the maximum also applies if no throughput was measured."""


class ThroughputEstimator:
    """An exponentially weighted rate. `now` is in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._weighted_count = 0.0
        """Acknowledged submissions, weighted by age: the rate times AVERAGING_SECONDS."""
        self._updated_at = -math.inf

    def add(self, submissions: int, now: float) -> None:
        """Count acknowledged submissions."""
        self._weighted_count = self._decayed(now) + submissions
        self._updated_at = now

    def per_second(self, now: float) -> float:
        return self._decayed(now) / AVERAGING_SECONDS

    def retry_after(self, submissions: int, now: float) -> int:
        """Return the seconds, rounded up, in which this number of submissions is sent at the
        measured rate."""
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
