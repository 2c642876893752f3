"""Limits dead letters: a partition with too many is paused. Pure.

Without a limit, a client that floods a partition with invalid data would also flood the dead-letter
topic and displace useful letters. A pause loses nothing: unread records stay in the topic.
"""

FILL_SECONDS = 60.0
"""Seconds in which a partition's allowance refills."""
RESUME_LEVEL = 0.1
"""Fraction of the allowance at which a paused partition resumes."""


class DeadLetterLimit:
    """A token bucket per partition, of `per_minute` letters; 0: no limit.

    A bucket is stored as the time at which it is full again. `now` is in seconds on a monotonic
    clock. service.rate_limiter.RateLimiter refuses what exceeds a bucket; these letters are written
    already, so they are counted, and the partition waits.
    """

    def __init__(self, per_minute: float) -> None:
        self._interval = FILL_SECONDS / per_minute if per_minute else 0.0
        self._full_at: dict[int, float] = {}

    def add(self, partition: int, letters: int, now: float) -> bool:
        """Count letters; return whether the allowance is used up and the partition must pause.

        A frame is never split, so it may exceed the allowance. The excess is not carried over, so a
        pause takes at most 6 s.
        """
        if not self._interval:
            return False
        full_at = max(self._full_at.get(partition, now), now) + self._interval * letters
        self._full_at[partition] = min(full_at, now + FILL_SECONDS)
        return full_at >= now + FILL_SECONDS

    def seconds_to_wait(self, partition: int, now: float) -> float:
        """Return the seconds after which a paused partition may resume."""
        return max(0.0, self._full_at.get(partition, now) - now - FILL_SECONDS * (1 - RESUME_LEVEL))
