"""Token buckets for many keys."""

from collections.abc import Hashable

TOLERANCE = 1e-6
"""Seconds by which a wait may end early; larger than rounding errors after years of uptime."""


class RateLimiter:
    """One token bucket per key, refilled at `per_minute`, with a capacity of `burst` (default: one
    minute).

    A bucket is stored as the time at which it will be full again (the generic cell rate algorithm,
    ITU-T I.371, in its virtual scheduling form). Full buckets are dropped, so memory grows with the
    keys of the last minute only. With `per_minute` 0 there is no limit.
    """

    def __init__(self, per_minute: float, burst: float | None = None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._burst = per_minute if burst is None else burst
        self._fill_seconds = self._interval * self._burst
        self._recent: dict[Hashable, float] = {}
        self._older: dict[Hashable, float] = {}
        self._recent_full_at = self._older_full_at = float("-inf")
        """The time at which all buckets of a generation are full again."""
        self._rotate_at = float("-inf")

    @property
    def policy(self) -> tuple[int, int]:
        """A quota, and the seconds in which a bucket refills by it."""
        quota = max(1, int(60.0 / self._interval + TOLERANCE))
        return quota, round(quota * self._interval)

    def remaining(self, wait: float, cost: float = 1) -> int:
        """The tokens in a bucket that made `acquire` return `wait` for `cost`."""
        return max(0, int(min(cost, self._burst) - wait / self._interval + TOLERANCE))

    def acquire(self, key: Hashable, now: float, cost: float = 1) -> float:
        """Take `cost` tokens from a bucket; return 0, or the seconds to wait if there are too few.

        A cost above the capacity is taken from a full bucket, which then takes longer to refill.
        `now` is in seconds of a clock that never goes back.
        """
        if not self._interval:
            return 0.0
        if now >= self._rotate_at:
            self._rotate(now)
        full_at = self._recent.get(key)
        if full_at is None:
            full_at = self._older.get(key, now)
        full_at = max(full_at, now)
        wait = full_at - now - self._interval * (self._burst - min(cost, self._burst))
        if wait > TOLERANCE:
            return wait
        full_at += self._interval * cost
        self._recent[key] = full_at
        self._recent_full_at = max(self._recent_full_at, full_at)
        return 0.0

    def _rotate(self, now: float) -> None:
        """Drop buckets that were last used longer ago than a bucket takes to refill."""
        not_full = {}
        if self._older_full_at > now:  # a cost above the capacity was taken
            not_full = {key: full_at for key, full_at in self._older.items() if full_at > now}
        current = self._recent if self._recent_full_at > now else {}
        # Not copied: copying a million buckets would block the event loop.
        self._older, self._recent = (not_full | current if not_full else current), {}
        self._older_full_at, self._recent_full_at = (
            max(self._older_full_at, self._recent_full_at),
            now,
        )
        self._rotate_at = now + self._fill_seconds
