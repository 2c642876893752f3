"""The expiry clock runs no faster than the monotonic clock confirms."""

import pytest

from processor.table.expiry_clock import ExpiryClock

NOW = 10**12
HOUR = 3_600_000


@pytest.fixture
def clock() -> ExpiryClock:
    clock = ExpiryClock()
    assert clock.observe(0, NOW, monotonic=0, wall=NOW + 5) == NOW
    return clock


def test_it_follows_the_brokers_time_at_normal_speed(clock: ExpiryClock) -> None:
    for minute in range(1, 100):
        now = NOW + minute * 60_000
        assert clock.observe(0, now, minute * 60_000, wall=0) == now


def test_a_broker_that_is_ahead_for_a_minute_moves_it_by_seconds(clock: ExpiryClock) -> None:
    assert clock.observe(0, NOW + 60_000 + 30 * HOUR, 60_000, wall=0) == NOW + 66_000
    assert clock.observe(0, NOW + 120_000, 120_000, wall=0) == NOW + 120_000


def test_a_corrected_broker_clock_is_followed_slowly(clock: ExpiryClock) -> None:
    time = 0
    for hours in range(1, 12):
        time = clock.observe(0, NOW + (hours + 1) * HOUR, hours * HOUR, wall=0)
    assert time == NOW + 12 * HOUR


def test_a_broker_clock_that_goes_back_is_followed_at_once(clock: ExpiryClock) -> None:
    assert clock.observe(0, NOW - HOUR, 60_000, wall=0) == NOW - HOUR


def test_it_starts_at_this_machines_time_if_that_is_earlier() -> None:
    clock = ExpiryClock()
    assert clock.observe(0, NOW + HOUR, 0, wall=NOW) == NOW
    assert clock.observe(1, NOW, 0, wall=NOW + HOUR) == NOW
