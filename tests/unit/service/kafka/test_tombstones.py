"""A reader has half of delete.retention.ms to reach the end offsets."""

import pytest

from service.kafka.tombstones import MissedTombstonesError, TombstoneDeadline

KEPT = 100.0


def test_a_reader_that_keeps_up_never_fails() -> None:
    deadline = TombstoneDeadline(now=0)
    for second in range(1000):
        deadline.check(second, KEPT, {0: second, 1: 5}, {0: second, 1: 5})


def test_a_reader_disconnected_for_half_the_retention_must_restart() -> None:
    deadline = TombstoneDeadline(now=0)
    deadline.check(1, KEPT, {0: 5}, {0: 5})
    deadline.check(50, KEPT, {0: 5}, {0: 5})
    with pytest.raises(MissedTombstonesError, match="51 s ago"):
        deadline.check(101, KEPT, {0: 9}, {0: 5, 1: 0})


def test_a_reader_that_never_reaches_the_end_must_restart() -> None:
    deadline = TombstoneDeadline(now=0)
    for second in range(1, 51):
        deadline.check(second, KEPT, {0: 10 * second}, {0: 3})
    with pytest.raises(MissedTombstonesError):
        deadline.check(52, KEPT, {0: 520}, {0: 9})


def test_a_reader_that_always_lags_a_little_keeps_up() -> None:
    """The end offsets of the first request count, not the latest, because records arrive all the
    time."""
    deadline = TombstoneDeadline(now=0)
    for second in range(1, 1000):
        deadline.check(second, KEPT, {0: 10 * second}, {0: 10 * (second - 5)})
