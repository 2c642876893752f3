"""Token buckets: how often something may happen, for each of many keys."""

from collections.abc import Hashable

TOLERANCE = 1e-6
"""Seconds by which a wait may end early: more than rounding costs after years of uptime."""


class TokenBuckets:
    """One bucket a key, filled at `per_minute`, holding `burst` tokens (default: a minute's).

    A bucket is kept as the one moment at which it is full again (the generic cell rate algorithm,
    ITU-T I.371, in its virtual scheduling form), and full ones are forgotten: a million keys cost
    what has happened in the last minute. With `per_minute` 0 there is no limit.
    """

    def __init__(self, per_minute: float, burst: float | None = None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._burst = per_minute if burst is None else burst
        self._span = self._interval * self._burst
        self._young: dict[Hashable, float] = {}
        self._old: dict[Hashable, float] = {}
        self._young_full = self._old_full = float("-inf")
        """When all buckets of a generation are full again."""
        self._turn = float("-inf")

    def take(self, key: Hashable, now: float, cost: float = 1) -> float:
        """Take `cost` tokens of a bucket, or none; return the seconds after which to try again.

        0 means taken. Whoever wants more than a bucket holds gets it from a full one, which then
        takes so much longer to fill. `now` is in seconds of a clock that never goes back.
        """
        if not self._interval:
            return 0.0
        if now >= self._turn:
            self._forget(now)
        full_at = self._young.get(key)
        if full_at is None:
            full_at = self._old.get(key, now)
        full_at = max(full_at, now)
        wait = full_at - now - self._interval * (self._burst - min(cost, self._burst))
        if wait > TOLERANCE:
            return wait
        full_at += self._interval * cost
        self._young[key] = full_at
        self._young_full = max(self._young_full, full_at)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop buckets that were last used more than the time ago in which one fills."""
        owing = {}
        if self._old_full > now:  # somebody was given more than a bucket holds
            owing = {key: full_at for key, full_at in self._old.items() if full_at > now}
        young = self._young if self._young_full > now else {}
        # A copy of a million buckets would hold everybody up.
        self._old, self._young = (owing | young if owing else young), {}
        self._old_full, self._young_full = max(self._old_full, self._young_full), now
        self._turn = now + self._span
