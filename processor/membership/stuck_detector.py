"""Stuck detector: detects partitions that do not progress although frames wait.

Faust and aiokafka run several tasks and a thread, and any of them may hang without an exception:
heartbeats continue, but nothing is read (faust #175, aiokafka #1154). Only the ledgers show it:
frames wait, and the ledger's offset does not change. Only a restart helps.
"""

from collections.abc import Mapping
from typing import NamedTuple

from service.plural import counted


class StalledPartition(NamedTuple):
    """A partition without progress: its offset, since when, and the number of waiting records."""

    offset: int
    since: float
    waiting: int


class StuckDetector:
    """Detects partitions that are stuck for longer than a temporary fault. Pure.

    Times are in seconds on the monotonic clock. A partition's time restarts when its ledger
    advances, when no record waits, when it is paused (it is then not in `ledgers`), and when Kafka
    does not respond, because a restart would not help.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._stalled: dict[int, StalledPartition] = {}

    def update(
        self,
        now: float,
        ledgers: Mapping[int, int],
        spans: Mapping[int, tuple[int, int]] | None,
    ) -> None:
        """Record the ledgers' offsets and the partitions' spans.

        `ledgers` are the covered offsets of the partitions that should progress. `spans` are the
        first and the end offset of each partition (deleted records do not wait), or None if Kafka
        did not respond.
        """
        if spans is None:
            self._stalled.clear()
            return
        stalled = {}
        for partition, offset in ledgers.items():
            first, end = spans.get(partition, (0, 0))
            waiting = end - max(offset + 1, first)
            if waiting > 0:
                before = self._stalled.get(partition)
                since = before.since if before and before.offset == offset else now
                stalled[partition] = StalledPartition(offset, since, waiting)
        self._stalled = stalled

    def stuck(self, now: float, times: float = 1) -> list[str]:
        """Return the partitions that were stuck for `times` the limit, as text."""
        return [
            f"partition {partition} has not advanced past offset {stalled.offset} for "
            f"{now - stalled.since:.0f} s, with {counted(stalled.waiting, 'record')} waiting"
            for partition, stalled in sorted(self._stalled.items())
            if now - stalled.since > times * self._limit
        ]
