"""Settling: how long a worker may wait for its partitions."""

from processor.membership.settling_detector import SettlingDetector


def waited(detector: SettlingDetector, seconds: int, start: int = 0, **state: bool | int) -> bool:
    """Observe the same state each second; return whether it has become a fault."""
    for second in range(start, start + seconds + 1):
        known = {"settled": False, "rows": 0, "kafka_responds": True} | state
        detector.observe(
            float(second),
            settled=bool(known["settled"]),
            rows=int(known["rows"]),
            kafka_responds=bool(known["kafka_responds"]),
        )
    return bool(detector.faults())


def test_a_wait_longer_than_the_limit_is_a_fault() -> None:
    detector = SettlingDetector(15, longest_step=4)
    assert not waited(detector, 15)
    assert waited(detector, 1, start=15)
    assert detector.faults() == [
        "the worker has waited for its partitions for 16 s although Kafka responds and no row "
        "is being loaded"
    ]
    assert detector.faults(times=1.2) == []


def test_a_settled_worker_or_an_outage_of_kafka_is_no_fault() -> None:
    for state in ({"settled": True}, {"kafka_responds": False}):
        detector = SettlingDetector(15, longest_step=4)
        assert not waited(detector, 100, **state)
        waited(detector, 14, start=100)
        waited(detector, 0, start=115, **state)
        assert not waited(detector, 14, start=116)


def test_the_time_of_loading_rows_does_not_count() -> None:
    detector = SettlingDetector(15, longest_step=4)
    for second in range(100):
        detector.observe(second, settled=False, rows=1_000 * second, kafka_responds=True)
    assert detector.faults() == []
    assert waited(detector, 16, start=100, rows=99_000)


def test_time_without_cpu_counts_only_in_part() -> None:
    detector = SettlingDetector(15, longest_step=4)
    for moment in (0.0, 60.0, 120.0, 180.0):
        detector.observe(moment, settled=False, rows=0, kafka_responds=True)
    assert detector.faults() == []
