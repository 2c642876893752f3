"""Settling detector: detects a worker that waits too long for its partitions. Pure."""


class SettlingDetector:
    """Measures how long a worker waits for its partitions without progress.

    The time between two observations counts if the worker is not settled in both, Kafka responds,
    and no row was loaded. A settled worker or an outage of Kafka resets the time.
    """

    def __init__(self, limit: float, longest_step: float) -> None:
        """`limit` and `longest_step` are in seconds.

        At most `longest_step` counts between two observations: a longer step means that the process
        got no CPU time, which a restart would not change.
        """
        self._limit = limit
        self._longest_step = longest_step
        self._waited = 0.0
        self._observed_at: float | None = None
        self._rows = 0

    def observe(self, now: float, *, settled: bool, rows: int, kafka_responds: bool) -> None:
        """Record the state at `now`; `rows` is the number of rows loaded since the start."""
        if settled or not kafka_responds:
            self._waited, self._observed_at = 0.0, None
        else:
            if self._observed_at is not None and rows == self._rows:
                self._waited += min(now - self._observed_at, self._longest_step)
            self._observed_at = now
        self._rows = rows

    def faults(self, times: float = 1) -> list[str]:
        """Return a fault if the worker has waited for more than `times` the limit."""
        if self._waited <= times * self._limit:
            return []
        return [
            f"the worker has waited for its partitions for {self._waited:.0f} s although "
            "Kafka responds and no row is being loaded"
        ]
