"""Retry-After from the measured throughput."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.produce.throughput import (
    AVERAGING_SECONDS,
    MAX_RETRY_AFTER,
    MIN_RETRY_AFTER,
    ThroughputEstimator,
)


def test_a_steady_rate_is_measured() -> None:
    rate = ThroughputEstimator()
    for tick in range(1000):
        rate.add(50, tick / 10)
    assert rate.per_second(99.9) == pytest.approx(500, rel=0.02)
    assert rate.retry_after(5000, 99.9) in (10, 11)


def test_an_earlier_higher_rate_decays() -> None:
    rate = ThroughputEstimator()
    rate.add(10_000, 0.0)
    assert rate.retry_after(1000, 0.0) == MIN_RETRY_AFTER
    assert rate.retry_after(1000, 5 * AVERAGING_SECONDS) == MAX_RETRY_AFTER


def test_retry_after_is_bounded_without_throughput() -> None:
    assert ThroughputEstimator().retry_after(1, 100.0) == MAX_RETRY_AFTER
    assert ThroughputEstimator().retry_after(0, 100.0) == MAX_RETRY_AFTER


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 100)), max_size=20),
    st.integers(0, 10**9),
)
def test_retry_after_is_bounded_and_grows_with_the_queue(
    taken: list[tuple[int, float]], waiting: int
) -> None:
    rate, now = ThroughputEstimator(), 0.0
    for submissions, pause in taken:
        now += pause
        rate.add(submissions, now)
    assert (
        MIN_RETRY_AFTER
        <= rate.retry_after(waiting, now)
        <= rate.retry_after(2 * waiting + 1, now)
        <= MAX_RETRY_AFTER
    )
