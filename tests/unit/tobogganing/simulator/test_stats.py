"""Statistics of a simulated fleet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.position import Receipt
from tobogganing.simulator.stats import Latencies, Stats


@given(st.lists(st.floats(1e-4, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_right_within_5_percent(seconds: list[float], share: float) -> None:
    latencies = Latencies()
    for value in seconds:
        latencies.add(value)
    ranked = sorted(seconds)
    exact = next(v for n, v in enumerate(ranked, 1) if n >= share * len(ranked))
    assert exact * 0.999 <= latencies.quantile(share) <= exact * 1.051


def test_quantiles_without_durations() -> None:
    assert Latencies().quantile(0.99) == 0.0


def test_the_last_receipt_of_each_partition() -> None:
    stats = Stats()
    for text in ("0-10-1", "1-3-0", "0-9-7", "0-10-0"):
        stats.accepted_as(Receipt.parse(text))
    assert "last receipts  0-10-1 1-3-0" in stats.summary(1.0)


def test_a_good_run_has_nothing_unexpected_or_given_up() -> None:
    stats = Stats()
    assert not stats.is_good, "nothing was accepted"
    stats.record_response(200, 0.001)
    stats.record_response(503, 0.001)
    assert stats.is_good
    stats.given_up += 1
    assert not stats.is_good


def test_an_unexpected_response_fails_the_run_and_is_shown() -> None:
    stats = Stats()
    stats.record_response(200, 0.001)
    for n in range(7):
        stats.record_response(500, 0.001)
        stats.note_unexpected(f"surprise {n}")
    assert not stats.is_good
    summary = stats.summary(2.0)
    assert "200: 1  500: 7" in summary
    assert "unexpected     7" in summary
    assert "surprise 4" in summary
    assert "surprise 5" not in summary


def test_progress_is_since_the_last_line() -> None:
    stats, recent = Stats(), Latencies()
    for _ in range(30):
        stats.record_response(200, 0.002)
    recent.add(0.01)
    line = stats.line(before=10, seconds=2.0, latencies=recent)
    assert line.startswith("10/s  accepted 30  refused 0")
    assert float(line.partition("p50 ")[2].split()[0]) == pytest.approx(10, rel=0.06)
