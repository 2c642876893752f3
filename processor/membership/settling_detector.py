"""Settling detector: a worker that has no partitions for longer than it needs. Pure."""


class SettlingDetector:
    """Measures how long a worker waits for its partitions without any progress.

    Between two observations the time counts if the worker is not settled in both, Kafka answers,
    and no row was loaded: rows that are read are the time that a worker is measured to need. A
    settled worker and an outage of Kafka start the count again.
    """

    def __init__(self, limit: float, longest_step: float) -> None:
        """`limit` and `longest_step` are in seconds.

        More than `longest_step` between two observations does not count: then this process had no
        CPU time, and a restart would not bring it any.
        """
        self._limit = limit
        self._longest_step = longest_step
        self._waited = 0.0
        self._observed_at: float | None = None
        self._rows = 0

    def observe(self, now: float, *, settled: bool, rows: int, kafka_answers: bool) -> None:
        """Record the state at `now`; `rows` is the number of rows loaded since the start."""
        if settled or not kafka_answers:
            self._waited, self._observed_at = 0.0, None
        else:
            if self._observed_at is not None and rows == self._rows:
                self._waited += min(now - self._observed_at, self._longest_step)
            self._observed_at = now
        self._rows = rows

    def faults(self, times: float = 1) -> list[str]:
        """Say that the worker has waited for longer than `times` the limit, if it has."""
        if self._waited <= times * self._limit:
            return []
        return [
            f"the worker has been waiting for its partitions for {self._waited:.0f} s, though "
            "Kafka answers and no row is being loaded"
        ]
