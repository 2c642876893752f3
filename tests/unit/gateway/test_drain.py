"""The drain rate: how long somebody waits for room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drain import LEAST, MOST, SPAN, DrainRate


def test_a_steady_rate_is_found() -> None:
    rate = DrainRate()
    for tick in range(1000):
        rate.add(50, tick / 10)
    assert rate.per_second(99.9) == pytest.approx(500, rel=0.02)
    assert rate.wait(5000, 99.9) in (10, 11)


def test_it_forgets_what_was_faster_before() -> None:
    rate = DrainRate()
    rate.add(10_000, 0.0)
    assert rate.wait(1000, 0.0) == LEAST
    assert rate.wait(1000, 5 * SPAN) == MOST


def test_where_nothing_leaves_nobody_waits_for_ever() -> None:
    assert DrainRate().wait(1, 100.0) == MOST
    assert DrainRate().wait(0, 100.0) == MOST


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 100)), max_size=20),
    st.integers(0, 10**9),
)
def test_a_wait_is_bounded_and_longer_for_more(
    taken: list[tuple[int, float]], waiting: int
) -> None:
    rate, now = DrainRate(), 0.0
    for submissions, pause in taken:
        now += pause
        rate.add(submissions, now)
    assert LEAST <= rate.wait(waiting, now) <= rate.wait(2 * waiting + 1, now) <= MOST
