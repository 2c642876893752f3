"""Token buckets: how often something may happen, for each of many keys."""

from collections.abc import Hashable

TOLERANCE = 1e-6
"""Seconds by which a wait may end early: more than rounding costs after years of uptime."""


class RateLimiter:
    """One bucket a key, filled at `per_minute`, holding `burst` tokens (default: a minute's).

    A bucket is kept as the one moment at which it is full again (the generic cell rate algorithm,
    ITU-T I.371, in its virtual scheduling form), and full ones are forgotten: a million keys cost
    what has happened in the last minute. With `per_minute` 0 there is no limit.
    """

    def __init__(self, per_minute: float, burst: float | None = None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._burst = per_minute if burst is None else burst
        self._fill_seconds = self._interval * self._burst
        self._recent: dict[Hashable, float] = {}
        self._older: dict[Hashable, float] = {}
        self._recent_full_at = self._older_full_at = float("-inf")
        """When all buckets of a generation are full again."""
        self._rotate_at = float("-inf")

    def acquire(self, key: Hashable, now: float, cost: float = 1) -> float:
        """Take `cost` tokens of a bucket, or none; return the seconds after which to try again.

        0 means taken. Whoever wants more than a bucket holds gets it from a full one, which then
        takes so much longer to fill. `now` is in seconds of a clock that never goes back.
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
        """Drop buckets that were last used more than the time ago in which one fills."""
        owing = {}
        if self._older_full_at > now:  # somebody was given more than a bucket holds
            owing = {key: full_at for key, full_at in self._older.items() if full_at > now}
        young = self._recent if self._recent_full_at > now else {}
        # A copy of a million buckets would hold everybody up.
        self._older, self._recent = (owing | young if owing else young), {}
        self._older_full_at, self._recent_full_at = (
            max(self._older_full_at, self._recent_full_at),
            now,
        )
        self._rotate_at = now + self._fill_seconds
