"""When a worker counts as stuck."""

import pytest

from processor.membership.stuck_detector import StuckDetector

LIMIT = 120.0


@pytest.fixture
def progress() -> StuckDetector:
    progress = StuckDetector(LIMIT)
    progress.update(1000.0, {0: 4, 1: 9}, {0: (0, 8), 1: (0, 10)})
    return progress


def test_frames_wait_and_the_ledger_stands_still(progress: StuckDetector) -> None:
    progress.update(1100.0, {0: 4, 1: 9}, {0: (0, 9), 1: (0, 10)})
    assert progress.stuck(1120.0) == []
    progress.update(1121.0, {0: 4, 1: 9}, {0: (0, 9), 1: (0, 10)})
    assert progress.stuck(1121.0) == [
        "partition 0 has not advanced past offset 4 for 121 s, with 4 records waiting"
    ]


def test_a_ledger_that_moves_is_well_however_far_behind(progress: StuckDetector) -> None:
    for offset in range(5, 50):
        progress.update(1000.0 + 100 * offset, {0: offset}, {0: (0, 10**6)})
        assert progress.stuck(1000.0 + 100 * offset) == []


def test_nothing_waits(progress: StuckDetector) -> None:
    progress.update(1100.0, {1: 9}, {1: (0, 10)})
    progress.update(2000.0, {1: 9}, {1: (0, 11)})
    assert progress.stuck(2000.0) == []
    assert progress.stuck(2121.0) != []


def test_the_time_begins_anew_where_kafka_was_away(progress: StuckDetector) -> None:
    progress.update(1100.0, {0: 4}, None)
    assert progress.stuck(5000.0) == []
    progress.update(5000.0, {0: 4}, {0: (0, 8)})
    assert progress.stuck(5120.0) == []
    assert progress.stuck(5121.0) != []


def test_the_time_begins_anew_after_a_stop_on_purpose_and_a_move(progress: StuckDetector) -> None:
    progress.update(1100.0, {1: 9}, {0: (0, 8), 1: (0, 10)})
    progress.update(1121.0, {0: 4}, {0: (0, 8), 1: (0, 10)})
    assert progress.stuck(1200.0) == []
    assert progress.stuck(1242.0) != []


def test_what_kafka_has_deleted_waits_for_nobody(progress: StuckDetector) -> None:
    progress.update(1100.0, {0: 4}, {0: (8, 8)})
    assert progress.stuck(5000.0) == []
    progress.update(5000.0, {0: 4}, {0: (8, 9)})
    progress.update(5121.0, {0: 4}, {0: (8, 9)})
    assert progress.stuck(5121.0) == [
        "partition 0 has not advanced past offset 4 for 121 s, with 1 records waiting"
    ]
