"""When a partition counts as stuck."""

import pytest

from processor.membership.stuck_detector import StuckDetector

LIMIT = 120.0


@pytest.fixture
def detector() -> StuckDetector:
    detector = StuckDetector(LIMIT)
    detector.update(1000.0, {0: 4, 1: 9}, {0: (0, 8), 1: (0, 10)})
    return detector


def test_a_ledger_without_progress_and_with_waiting_frames_is_stuck(
    detector: StuckDetector,
) -> None:
    detector.update(1100.0, {0: 4, 1: 9}, {0: (0, 9), 1: (0, 10)})
    assert detector.stuck(1120.0) == []
    detector.update(1121.0, {0: 4, 1: 9}, {0: (0, 9), 1: (0, 10)})
    assert detector.stuck(1121.0) == [
        "partition 0 has not advanced past offset 4 for 121 s, with 4 records waiting"
    ]


def test_a_ledger_that_advances_is_not_stuck_whatever_its_lag(detector: StuckDetector) -> None:
    for offset in range(5, 50):
        detector.update(1000.0 + 100 * offset, {0: offset}, {0: (0, 10**6)})
        assert detector.stuck(1000.0 + 100 * offset) == []


def test_a_partition_without_waiting_frames_is_not_stuck(detector: StuckDetector) -> None:
    detector.update(1100.0, {1: 9}, {1: (0, 10)})
    detector.update(2000.0, {1: 9}, {1: (0, 11)})
    assert detector.stuck(2000.0) == []
    assert detector.stuck(2121.0) != []


def test_an_outage_of_kafka_restarts_the_time(detector: StuckDetector) -> None:
    detector.update(1100.0, {0: 4}, None)
    assert detector.stuck(5000.0) == []
    detector.update(5000.0, {0: 4}, {0: (0, 8)})
    assert detector.stuck(5120.0) == []
    assert detector.stuck(5121.0) != []


def test_a_pause_and_an_advance_restart_the_time(detector: StuckDetector) -> None:
    detector.update(1100.0, {1: 9}, {0: (0, 8), 1: (0, 10)})
    detector.update(1121.0, {0: 4}, {0: (0, 8), 1: (0, 10)})
    assert detector.stuck(1200.0) == []
    assert detector.stuck(1242.0) != []


def test_deleted_records_do_not_wait(detector: StuckDetector) -> None:
    detector.update(1100.0, {0: 4}, {0: (8, 8)})
    assert detector.stuck(5000.0) == []
    detector.update(5000.0, {0: 4}, {0: (8, 9)})
    detector.update(5121.0, {0: 4}, {0: (8, 9)})
    assert detector.stuck(5121.0) == [
        "partition 0 has not advanced past offset 4 for 121 s, with 1 record waiting"
    ]
