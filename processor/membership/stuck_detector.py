"""Liveness: partitions that stand still though frames wait, which only a restart can mend.

Faust's and aiokafka's parts run in several tasks and a thread, and any of them may hang without
an exception: heartbeats go on, nothing is read (faust #175, aiokafka #1154). From outside such a
worker looks well, but for its ledgers: frames wait behind them, and they do not move.
"""

from collections.abc import Mapping
from typing import NamedTuple


class StalledPartition(NamedTuple):
    """A partition that does not move: where, since when, and how many records wait."""

    offset: int
    since: float
    waiting: int


class StuckDetector:
    """Tells which partitions stand still for longer than anything that passes by itself. Pure.

    Times are in seconds on the monotonic clock. A partition's time begins anew when its ledger
    moves, when nothing waits, when it stands still on purpose (it is then not among `ledgers`), and
    when Kafka does not answer: a restart would not help against that.
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
        """Take note of where ledgers are, and of what is there; None: Kafka did not answer.

        `ledgers` are the offsets that they cover, of the partitions that should move; `spans` the
        first offset that each partition has, and the one behind its last: what Kafka has deleted
        waits for nobody.
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
        """Say which partitions have stood still for so many times the limit, if any."""
        return [
            f"partition {partition} has stood behind offset {held.offset} for "
            f"{now - held.since:.0f} s, and {held.waiting} records wait"
            for partition, held in sorted(self._stalled.items())
            if now - held.since > times * self._limit
        ]
