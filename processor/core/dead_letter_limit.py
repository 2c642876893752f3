"""The cap on dead letters: a partition that is flooded with them stops for a while. Pure.

Without it whoever can fill a partition with rubbish fills the dead-letter topic too, and pushes out
what was worth keeping. Nothing is lost by a stop: what is not read stays where it is.
"""

FILL_SECONDS = 60.0
"""Seconds in which a partition's allowance fills."""
RESUME_LEVEL = 0.1
"""Share of the allowance at which a stopped partition goes on."""


class DeadLetterLimit:
    """A token bucket for each partition, of `per_minute` letters, filled evenly; 0: no cap.

    A bucket is kept as the moment at which it is full again. `now` is in seconds of a clock that
    never goes back.
    """

    def __init__(self, per_minute: float) -> None:
        self._interval = FILL_SECONDS / per_minute if per_minute else 0.0
        self._full_at: dict[int, float] = {}

    def add(self, partition: int, letters: int, now: float) -> bool:
        """Count letters; tell whether the allowance is used up, so that the partition must stop.

        A frame is never torn apart: one may bring more letters than are left. They are not owed,
        so that a stop is never longer than 6 s.
        """
        if not self._interval:
            return False
        full_at = max(self._full_at.get(partition, now), now) + self._interval * letters
        self._full_at[partition] = min(full_at, now + FILL_SECONDS)
        return full_at >= now + FILL_SECONDS

    def seconds_to_wait(self, partition: int, now: float) -> float:
        """Seconds after which a partition that was stopped may go on."""
        return max(0.0, self._full_at.get(partition, now) - now - FILL_SECONDS * (1 - RESUME_LEVEL))
