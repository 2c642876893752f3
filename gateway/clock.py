"""Broker time: what the brokers' clocks say at a moment of our own monotonic clock.

Deadlines are compared with append times, so they must be in the leader's time. Each
acknowledgement bounds the difference between its clock and ours: the append happened after the
frame was sent and before it was acknowledged. What several acknowledgements allow is their
intersection. If it is empty, a clock was set or another broker leads: only the newest counts then.

Deadlines follow from the lower bound. Too low a bound costs a 200 that could have been given; too
high a one lets a submission be applied after its answer was 503.

Moments are in seconds of the monotonic clock, broker times in milliseconds since the epoch.
"""

import math
from typing import NamedTuple

DRIFT = 0.0002
"""How far two clocks may drift apart, in seconds a second: crystals and a slewing NTP daemon."""
MAX_DRIFT_MS = 1_000.0
"""Widest that an idle hour may blur the bounds: a submission after it must still find time."""


class _Bounds(NamedTuple):
    """Where the difference between a broker's clock and ours lies, as of the moment `at`."""

    low: float
    high: float
    at: float

    def widened(self, moment: float) -> "_Bounds":
        blur = min(max(0.0, moment - self.at) * 1000 * DRIFT, MAX_DRIFT_MS)
        return _Bounds(self.low - blur, self.high + blur, moment)


class BrokerClock:
    """The clocks of the partitions' leaders.

    `wall_offset` is our own wall clock less the monotonic one, in milliseconds; it stands in until
    a broker has said what it thinks.
    """

    def __init__(self, wall_offset: float) -> None:
        self._wall_offset = wall_offset
        self._leaders: dict[int, _Bounds] = {}
        self._newest: _Bounds | None = None

    def learn(self, partition: int, appended: int, sent: float, acknowledged: float) -> None:
        """Take the append time of a record that was sent and acknowledged at these moments."""
        heard = _Bounds(
            low=appended - acknowledged * 1000,
            high=appended + 1 - sent * 1000,
            at=acknowledged,
        )
        known = self._leaders.get(partition)
        if known is not None:
            known = known.widened(acknowledged)
            low, high = max(known.low, heard.low), min(known.high, heard.high)
            if low <= high:
                heard = _Bounds(low, high, acknowledged)
        self._leaders[partition] = self._newest = heard

    def at_least(self, partition: int, moment: float, now: float) -> float:
        """Earliest broker time that it may be at `moment`."""
        known = self._leaders.get(partition) or self._newest
        if known is None:
            return self._wall_offset + moment * 1000
        return known.widened(now).low + moment * 1000

    def answer_by(self, partition: int, deadline: float, now: float) -> int:
        """Return the last append time that is surely before `deadline`.

        One millisecond less than the bound: append times are whole milliseconds, and one that is
        equal counts as in time.
        """
        return math.floor(self.at_least(partition, deadline, now)) - 1
