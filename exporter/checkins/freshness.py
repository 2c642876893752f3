"""How old the data is: the time up to which submissions are known to be applied.

While Kafka or the processors are unavailable, states are computed as of that time; otherwise a
whole fleet would seem to go offline.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping

from contract.ledger import LedgerRow
from exporter.state.source_lag import SourceLagMonitor
from service.kafka.tailer import TopicTailer

GRACE_SECONDS = 10.0
"""Delays up to this are normal: a flush, a rebalance, a slow response."""
RATE_WINDOW = 30
"""Observations over which the rate of submissions is measured."""


class Freshness:
    """Observes the progress of the ledgers once a second."""

    def __init__(
        self,
        ledgers: Mapping[int, LedgerRow],
        source: SourceLagMonitor,
        state: TopicTailer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledgers = ledgers
        self._source = source
        self._state = state
        self._now = now
        self._covered_at: dict[int, float] = {}
        self._counts: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW)

    def observe(self) -> None:
        """Note which partitions are covered to their end now."""
        now = self._now()
        if self._source.seconds_since_response() < GRACE_SECONDS:
            for partition, lag in self._source.lag().items():
                if lag == 0:
                    self._covered_at[partition] = now
        if self._state.caught_up:
            self._counts.append((now, sum(row.read for row in self._ledgers.values())))
        else:  # rows read at the start are no new submissions
            self._counts.clear()

    def as_of(self) -> float:
        """Return the time up to which the data is complete: now, or earlier while Kafka or the
        processors are unavailable or behind.
        """
        now = self._now()
        silent = max(self._source.seconds_since_response(), self._state.seconds_since_response())
        times = [now - silent] if silent < float("inf") else []
        for partition, lag in self._source.lag().items():
            if lag:
                counted = self._ledgers[partition].newest / 1000
                times.append(max(counted, self._covered_at.get(partition, 0.0)))
        oldest = min(times, default=now)
        return now if now - oldest < GRACE_SECONDS else max(0.0, oldest)

    def lag(self) -> dict[int, int]:
        """Return how many frames of each partition the ledgers do not cover yet."""
        return self._source.lag()

    def seconds_late(self) -> float:
        """Return the seconds from `as_of` to now."""
        return max(0.0, self._now() - self.as_of())

    def submissions_per_second(self) -> float | None:
        """Return the rate of the last observations since the rows were read, None before there are
        two."""
        if len(self._counts) < 2:
            return None
        (began, first), (ended, last) = self._counts[0], self._counts[-1]
        return max(0, last - first) / (ended - began) if ended > began else None
