"""Broker time: bounds of the difference between the brokers' clocks and the local monotonic clock.

Deadlines are compared with append times, so they must be in the leader's time. Each acknowledgement
bounds the difference between the leader's clock and ours: the append happened after the frame was
sent and before it was acknowledged. The bounds of several acknowledgements are intersected. If the
intersection is empty, a clock was set or the leader has changed; then only the newest
acknowledgement counts.

Deadlines use the lower bound. A bound that is too low costs a 200; a bound that is too high lets a
submission be applied after its 503. The local wall clock and the clocks of other leaders may be
wrong, so neither replaces the time of a leader that is not known yet: the batcher sends a probe to
it.

One error is unavoidable: after a leader's clock was set back, or when the next leader's clock is
behind, the bound is too high by that difference until the next acknowledgement.

Times are in seconds of the monotonic clock, broker times in milliseconds since the epoch.
"""

import math
from collections.abc import Hashable
from typing import NamedTuple

DRIFT = 0.0002
"""Maximum drift between two clocks, in seconds per second: crystals and a slewing NTP daemon."""
MAX_AGE = 600.0
"""Seconds after which the bounds of a leader are too wide to be used: by then 0.12 s."""


class _OffsetBounds(NamedTuple):
    """Bounds of the difference between a broker's clock and ours, in milliseconds, at the time
    `at`."""

    low: float
    high: float
    at: float

    def widened(self, moment: float) -> "_OffsetBounds":
        blur = abs(moment - self.at) * 1000 * DRIFT
        return _OffsetBounds(self.low - blur, self.high + blur, moment)


class BrokerClock:
    """The clocks of the partitions' leaders."""

    def __init__(self) -> None:
        self._leaders: dict[Hashable, _OffsetBounds] = {}

    def observe(
        self, partition: Hashable, appended_ms: int, sent_at: float, acknowledged_at: float
    ) -> tuple[float, float]:
        """Record the append time of a record that was sent and acknowledged at these times.

        Returns the bounds of the difference between the leader's clock and ours, in milliseconds.
        """
        bounds = _OffsetBounds(
            low=appended_ms - acknowledged_at * 1000,
            high=appended_ms + 1 - sent_at * 1000,
            at=acknowledged_at,
        )
        known = self._leaders.get(partition)
        if known is not None:
            known = known.widened(acknowledged_at)
            low, high = max(known.low, bounds.low), min(known.high, bounds.high)
            if low <= high:
                bounds = _OffsetBounds(low, high, acknowledged_at)
        self._leaders[partition] = bounds
        return bounds.low, bounds.high

    def differences(self, moment: float) -> tuple[float, float]:
        """Return the least and greatest difference between the brokers' clocks and ours, in
        milliseconds.

        Leaders whose newest acknowledgement is MAX_AGE older than that of another leader are
        ignored.
        """
        newest = max(known.at for known in self._leaders.values())
        bounds = [
            known.widened(moment)
            for known in self._leaders.values()
            if known.at >= newest - MAX_AGE
        ]
        return min(known.low for known in bounds), max(known.high for known in bounds)

    def is_fresh(self, partition: Hashable, now: float) -> bool:
        """Return whether the time of the partition's leader is known and not older than MAX_AGE."""
        known = self._leaders.get(partition)
        return known is not None and now - known.at <= MAX_AGE

    def earliest_time(self, partition: Hashable, moment: float) -> float:
        """Return the earliest possible broker time at `moment`; the leader's time must be known."""
        return self._leaders[partition].widened(moment).low + moment * 1000

    def latest_append_time(self, partition: Hashable, deadline: float) -> int:
        """Return the last append time that is certainly before `deadline`.

        It is one millisecond below the bound: append times are whole milliseconds, and an append
        time equal to the deadline counts as in time.
        """
        return math.floor(self.earliest_time(partition, deadline)) - 1
