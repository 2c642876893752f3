"""The clock for expiry: the brokers' time, limited by the monotonic clock. Pure.

Without the limit, a broker clock that is ahead for a minute would expire all idle entities.
"""

MAX_RATE = 1.1
"""Maximum rate of the clock relative to the monotonic clock.

After a broker's clock was wrong, the clock catches up at this rate; until then, entities expire
later than they could, which does no harm.
"""


class ExpiryClock:
    """Tracks the brokers' time of each partition; times are in milliseconds."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float]] = {}
        """Last time of each partition, and the monotonic time of that observation."""

    def observe(self, partition: int, broker: int, monotonic: float, wall: float) -> int:
        """Return the expiry time, given a broker's time and this machine's clocks.

        It is at most the broker's time, runs at most `MAX_RATE` times as fast as the monotonic
        clock, and starts at this machine's wall time if that is earlier.
        """
        known = self._known.get(partition)
        limit = wall if known is None else known[0] + (monotonic - known[1]) * MAX_RATE
        time = min(float(broker), limit)
        self._known[partition] = (time, monotonic)
        return int(time)
