"""Tombstones: a reader must come to each one before compaction may drop it.

Kafka keeps a tombstone for `delete.retention.ms` after it has compacted what is older. A reader
that was cut off for longer never sees it, and would keep what it removed for ever.
"""

import time
from collections.abc import Mapping

from service.kafka.topic_history import OutdatedStateError

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class MissedTombstonesError(OutdatedStateError):
    """Tombstones may have been dropped unread: the topic must be read from its beginning."""


class TombstoneDeadline:
    """Checks how long ago a reader had read everything that its topic held.

    `now` is in seconds of a clock that continues while the machine sleeps. `kept` is the topic's
    `delete.retention.ms` in seconds, of which a reader may use half.
    """

    def __init__(self, now: float) -> None:
        self._current_at = now
        self._pending: tuple[float, Mapping[int, int]] = (now, {})

    def seconds_behind(self, now: float) -> float:
        """Seconds since the reader was last known to be at the end."""
        return now - self._current_at

    def check(
        self, now: float, kept: float, ends: Mapping[int, int], positions: Mapping[int, int]
    ) -> None:
        """Compare where partitions end now with the reader's positions.

        Raises:
            MissedTombstonesError: the reader was last at the end too long ago.
        """
        asked_at, pending = self._pending
        if all(positions.get(partition, 0) >= end for partition, end in pending.items()):
            self._current_at = asked_at
            self._pending = (now, ends)
        behind = self.seconds_behind(now)
        if may_have_missed(behind, kept):
            raise MissedTombstonesError(
                f"the end was last reached {behind:.0f} s ago, and Kafka keeps tombstones for "
                f"{kept:.0f} s: the topic must be read from its beginning"
            )


def may_have_missed(behind: float, kept: float) -> bool:
    """Tell whether tombstones may be gone unread by a reader that is `behind` seconds behind.

    `kept` is `delete.retention.ms` in seconds.
    """
    return behind > kept / 2


def uptime() -> float:
    """Seconds on a clock that never goes back and goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)
