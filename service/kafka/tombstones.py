"""Detects that a reader may have missed tombstones.

Kafka keeps a tombstone for `delete.retention.ms` after compaction has removed the older records of
its key. A reader that was disconnected for longer never reads the tombstone, and would keep the
deleted record forever.
"""

from collections.abc import Mapping

from service.kafka.topic_history import OutdatedStateError


class MissedTombstonesError(OutdatedStateError):
    """Tombstones may have been deleted before they were read; the topic must be read from its
    beginning."""


class TombstoneDeadline:
    """Checks how long ago a reader had read its topic to the end.

    `now` is in seconds of a clock that continues while the machine sleeps. `retention` is the
    topic's `delete.retention.ms` in seconds; a reader may lag by half of it.
    """

    def __init__(self, now: float) -> None:
        self._current_at = now
        self._pending: tuple[float, Mapping[int, int]] = (now, {})

    def seconds_behind(self, now: float) -> float:
        """Return the seconds since the reader was last known to be at the end."""
        return now - self._current_at

    def check(
        self, now: float, retention: float, ends: Mapping[int, int], positions: Mapping[int, int]
    ) -> None:
        """Compare the current end offsets with the reader's positions.

        Raises:
            MissedTombstonesError: the reader was at the end too long ago.
        """
        requested_at, pending = self._pending
        if all(positions.get(partition, 0) >= end for partition, end in pending.items()):
            self._current_at = requested_at
            self._pending = (now, ends)
        behind = self.seconds_behind(now)
        if may_have_missed(behind, retention):
            raise MissedTombstonesError(
                f"the end was last reached {behind:.0f} s ago, and Kafka keeps tombstones for "
                f"{retention:.0f} s: the topic must be read from its beginning"
            )


def may_have_missed(behind: float, retention: float) -> bool:
    """Return whether a reader that is `behind` seconds behind may have missed tombstones.

    `retention` is `delete.retention.ms` in seconds.
    """
    return behind > retention / 2
