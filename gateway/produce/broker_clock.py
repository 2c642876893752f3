"""Broker time: what the brokers' clocks say at a moment of our own monotonic clock.

Deadlines are compared with append times, so they must be in the leader's time. Each
acknowledgement bounds the difference between its clock and ours: the append happened after the
frame was sent and before it was acknowledged. What several acknowledgements allow is their
intersection. If it is empty, a clock was set or another broker leads: only the newest counts then.

Deadlines follow from the lower bound. Too low a bound costs a 200 that could have been given; too
high a one lets a submission be applied after its answer was 503. Our own wall clock may be wrong,
and so may another leader's, so nothing stands in for a leader that has not spoken: it is asked.

What cannot be known before an acknowledgement tells is that a leader's clock has been set back, or
that the next leader's is behind: until then the bound is too high by that much.

Moments are in seconds of the monotonic clock, broker times in milliseconds since the epoch.
"""

import math
from collections.abc import Hashable
from typing import NamedTuple

DRIFT = 0.0002
"""How far two clocks may drift apart, in seconds a second: crystals and a slewing NTP daemon."""
MAX_AGE = 600.0
"""Seconds after which what a leader has said is too blurred: by then 0.12 s."""


class _OffsetBounds(NamedTuple):
    """Where the difference between a broker's clock and ours lies, as of the moment `at`."""

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
        """Take the append time of a record that was sent and acknowledged at these moments.

        Returns the bounds of the difference between the leader's clock and ours, in milliseconds.
        """
        heard = _OffsetBounds(
            low=appended_ms - acknowledged_at * 1000,
            high=appended_ms + 1 - sent_at * 1000,
            at=acknowledged_at,
        )
        known = self._leaders.get(partition)
        if known is not None:
            known = known.widened(acknowledged_at)
            low, high = max(known.low, heard.low), min(known.high, heard.high)
            if low <= high:
                heard = _OffsetBounds(low, high, acknowledged_at)
        self._leaders[partition] = heard
        return heard.low, heard.high

    def differences(self, moment: float) -> tuple[float, float]:
        """Least and greatest difference between a broker's clock and ours, in milliseconds.

        Of the leaders that were heard as lately as the newest one, or MAX_AGE before it.
        """
        newest = max(known.at for known in self._leaders.values())
        heard = [
            known.widened(moment)
            for known in self._leaders.values()
            if known.at >= newest - MAX_AGE
        ]
        return min(known.low for known in heard), max(known.high for known in heard)

    def is_fresh(self, partition: Hashable, now: float) -> bool:
        """Tell whether the partition's leader has said its time, and lately enough."""
        known = self._leaders.get(partition)
        return known is not None and now - known.at <= MAX_AGE

    def earliest_time(self, partition: Hashable, moment: float) -> float:
        """Earliest broker time that it may be at `moment`; the partition must be known."""
        return self._leaders[partition].widened(moment).low + moment * 1000

    def latest_append_time(self, partition: Hashable, deadline: float) -> int:
        """Return the last append time that is surely before `deadline`.

        One millisecond less than the bound: append times are whole milliseconds, and one that is
        equal counts as in time.
        """
        return math.floor(self.earliest_time(partition, deadline)) - 1
