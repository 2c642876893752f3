"""The limit of dead letters: how many pass, and how long a partition is paused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.dead_letter_limit import DeadLetterLimit


def test_the_allowance_of_a_minute_may_be_used_at_once() -> None:
    cap = DeadLetterLimit(60)
    assert [cap.add(0, 1, 100.0) for _ in range(60)] == [False] * 59 + [True]
    assert cap.seconds_to_wait(0, 100.0) == pytest.approx(6.0)
    assert cap.seconds_to_wait(0, 103.0) == pytest.approx(3.0)
    assert cap.seconds_to_wait(0, 106.0) == 0.0
    assert [cap.add(0, 1, 106.0) for _ in range(6)] == [False] * 5 + [True]


def test_the_excess_of_a_frame_is_not_carried_over() -> None:
    cap = DeadLetterLimit(60)
    assert cap.add(0, 500, 0.0)
    assert cap.seconds_to_wait(0, 0.0) == pytest.approx(6.0)


def test_partitions_have_separate_limits() -> None:
    cap = DeadLetterLimit(60)
    assert cap.add(0, 60, 0.0)
    assert not cap.add(1, 59, 0.0)
    assert cap.seconds_to_wait(2, 0.0) == 0.0


def test_a_low_rate_never_pauses() -> None:
    cap = DeadLetterLimit(60)
    assert not any(cap.add(0, 1, float(now)) for now in range(10_000))


def test_zero_means_no_limit() -> None:
    cap = DeadLetterLimit(0)
    assert not any(cap.add(0, 500, 0.0) for _ in range(1000))
    assert cap.seconds_to_wait(0, 0.0) == 0.0


@given(st.integers(1, 2000), st.lists(st.integers(1, 500), min_size=1, max_size=50))
def test_a_partition_that_pauses_when_required_stays_within_the_limit(
    rate: int, frames: list[int]
) -> None:
    """Except for the rest of each frame that triggered a pause."""
    cap, now, letters, allowed = DeadLetterLimit(rate), 0.0, 0, float(rate)
    for frame in frames:
        letters += frame
        if cap.add(0, frame, now):
            allowed += frame
            wait = cap.seconds_to_wait(0, now)
            assert 0 < wait <= 6.0 + 1e-6
            now += wait
            allowed += rate * wait / 60
    assert letters <= allowed + 1e-6
