"""The time that a sweep goes by: the brokers', as far as the monotonic clock confirms it. Pure.

A broker whose clock is ahead for a minute would otherwise have every silent entity swept at once.
"""

MAX_RATE = 1.1
"""How fast the time may run, against the monotonic clock.

After a broker's clock was wrong the time catches up at this rate. Until then entities are swept
later than they could be, which harms nobody."""


class SweepClock:
    """Follows the brokers' time of each partition; times are in milliseconds."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float]] = {}
        """Time of each partition, and when that was on the monotonic clock."""

    def observe(self, partition: int, broker: int, monotonic: float, wall: float) -> int:
        """Return the time to sweep by, given the time of a broker and the clocks of this machine.

        It is at most the broker's. It runs at most `MAX_RATE` times as fast as the monotonic clock,
        and begins at this machine's time where that is earlier.
        """
        known = self._known.get(partition)
        limit = wall if known is None else known[0] + (monotonic - known[1]) * MAX_RATE
        time = min(float(broker), limit)
        self._known[partition] = (time, monotonic)
        return int(time)
