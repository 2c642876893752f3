"""Fetch gathering: brokers hold fetches back while there is load, and only then."""

from types import SimpleNamespace
from typing import Any

from service.kafka.fetch_gathering import BUSY_WITHIN, GATHER_BYTES, GATHER_MS, FetchGathering

IDLE_MS = 500


def test_fetches_gather_under_load_and_not_for_a_lone_record() -> None:
    moment = 0.0
    fetcher = SimpleNamespace(_fetch_min_bytes=1, _fetch_max_wait_ms=IDLE_MS)
    consumer: Any = SimpleNamespace(_fetcher=fetcher)
    gathering = FetchGathering(IDLE_MS, GATHER_BYTES, lambda: moment)

    def polled(at: float, *, has_records: bool) -> tuple[int, int]:
        nonlocal moment
        moment = at
        gathering.observe(consumer, has_records)
        return fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms

    idle, busy = (1, IDLE_MS), (GATHER_BYTES, GATHER_MS)
    assert polled(0.0, has_records=True) == idle
    assert polled(1.0, has_records=True) == idle
    assert polled(1.1, has_records=True) == busy
    assert polled(1.2, has_records=False) == busy
    assert polled(1.3, has_records=True) == busy
    assert polled(1.4 + BUSY_WITHIN, has_records=False) == idle
    assert polled(9.0, has_records=True) == idle


def test_a_consumer_that_is_not_started_is_left_alone() -> None:
    gathering = FetchGathering(IDLE_MS, GATHER_BYTES, lambda: 0.0)
    consumer: Any = SimpleNamespace(_fetcher=None)
    gathering.observe(consumer, True)
    gathering.observe(consumer, True)
