"""Token buckets: limits, exact waits, and bounded memory."""

import math

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, rule

from service.rate_limiter import TOLERANCE, RateLimiter

STARTS = st.sampled_from([0.0, 1_000.0, 1e5, 3e7])
"""Possible first values of a monotonic clock: seconds since the machine started, up to a year."""
RATES = st.sampled_from([0.5, 1, 7, 60, 1000, 1e6]) | st.floats(0.1, 1e6)
PAUSES = st.floats(0, 5) | st.floats(0, 300) | st.just(0.0)


@given(start=STARTS, rate=RATES, pauses=st.lists(PAUSES, max_size=60), burst=st.floats(1, 100))
def test_at_most_the_burst_and_the_refill_are_granted(
    start: float, rate: float, pauses: list[float], burst: float
) -> None:
    buckets = RateLimiter(rate, burst)
    now = start
    taken: list[float] = []
    for pause in pauses:
        now += pause
        taken += [now for _ in range(3) if buckets.acquire("a", now) == 0]
    for first, begin in enumerate(taken):
        for count, end in enumerate(taken[first:], 1):
            assert count <= burst + rate / 60 * (end - begin + TOLERANCE) + 1e-6


@given(
    start=STARTS,
    rate=RATES,
    asked=st.lists(st.tuples(PAUSES, st.integers(1, 50)), min_size=1, max_size=60),
)
def test_a_refused_request_is_granted_after_the_returned_wait(
    start: float, rate: float, asked: list[tuple[float, int]]
) -> None:
    """A refused request is granted after the wait and not before; a refusal costs no tokens."""
    buckets = RateLimiter(rate)
    now = start
    for pause, cost in asked:
        now += pause
        wait = buckets.acquire("a", now, cost)
        if wait:
            assert wait == buckets.acquire("a", now, cost)
            assert buckets.acquire("a", now + wait / 2, cost) > 0 or wait < 4 * TOLERANCE
            # As an agent waits: whole seconds, as in Retry-After.
            retry_after = math.ceil(wait)
            assert retry_after >= 1
            now += wait if cost % 2 else retry_after
            assert buckets.acquire("a", now, cost) == 0


@given(start=STARTS, burst=st.integers(1, 100))
def test_a_full_bucket_grants_its_burst_and_then_one_token_at_a_time(
    start: float, burst: int
) -> None:
    buckets = RateLimiter(60, burst)
    assert [buckets.acquire("a", start) for _ in range(burst)] == [0] * burst
    assert math.isclose(buckets.acquire("a", start), 1, abs_tol=2 * TOLERANCE)
    assert buckets.acquire("a", start + 0.9) > 0
    assert buckets.acquire("a", start + 1) == 0
    assert buckets.acquire("a", start + 1) > 0


def test_by_default_a_bucket_holds_a_minute() -> None:
    buckets = RateLimiter(60)
    assert sum(buckets.acquire("a", 0.0) == 0 for _ in range(100)) == 60
    assert sum(buckets.acquire("a", 30.0) == 0 for _ in range(100)) == 30
    assert sum(buckets.acquire("a", 1000.0) == 0 for _ in range(100)) == 60


def test_each_key_has_its_own_bucket() -> None:
    buckets = RateLimiter(1)
    assert buckets.acquire("a", 0.0) == 0
    assert buckets.acquire("a", 0.0) == 60
    assert buckets.acquire("b", 0.0) == 0


def test_a_cost_above_the_capacity_takes_longer_to_refill() -> None:
    buckets = RateLimiter(60, 10)
    assert buckets.acquire("a", 0.0, 100) == 0
    assert buckets.acquire("a", 0.0) == 91  # one of the 10 tokens that it will hold must be there
    assert buckets.acquire("a", 90.0) > 0
    assert buckets.acquire("a", 91.0) == 0
    assert buckets.acquire("a", 91.0, 100) > 0


def test_a_bucket_that_is_not_full_survives_rotations() -> None:
    buckets = RateLimiter(60, 10)
    assert buckets.acquire("debtor", 0.0, 1000) == 0
    for second in range(0, 990, 5):
        assert buckets.acquire("other", float(second)) == 0
        assert buckets.acquire("debtor", float(second)) > 0
    assert buckets.acquire("debtor", 991.0) == 0


@given(st.floats(0, 1e9), st.integers(1, 10**6))
def test_zero_means_no_limit(now: float, cost: int) -> None:
    buckets = RateLimiter(0)
    assert [buckets.acquire("a", now, cost) for _ in range(100)] == [0] * 100


class Forgetting(RuleBasedStateMachine):
    """Compares with buckets that are never dropped: the results must be equal."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1e5
        self.buckets = RateLimiter(6, 3)
        self.remembering: dict[int, RateLimiter] = {}

    @rule(pause=st.floats(0, 100))
    def wait(self, pause: float) -> None:
        self.now += pause

    @rule(key=st.integers(0, 5), cost=st.integers(1, 5))
    def acquire(self, key: int, cost: int) -> None:
        own = self.remembering.setdefault(key, RateLimiter(6, 3))
        own._rotate_at = float("inf")
        assert self.buckets.acquire(key, self.now, cost) == own.acquire(key, self.now, cost)


TestForgetting = Forgetting.TestCase


def held(buckets: RateLimiter) -> int:
    return len(buckets._recent.keys() | buckets._older.keys())


def test_keys_are_dropped_after_two_minutes() -> None:
    buckets = RateLimiter(60)
    for second in range(1000):
        for visitor in range(10):
            assert buckets.acquire((second, visitor), float(second)) == 0
        assert held(buckets) <= 10 * 121


def test_all_keys_are_dropped_after_a_quiet_period() -> None:
    buckets = RateLimiter(60)
    for key in range(1000):
        assert buckets.acquire(key, 0.0) == 0
    assert held(buckets) == 1000
    assert buckets.acquire("a", 60.0) == 0
    assert held(buckets) <= 1001
    assert buckets.acquire("a", 600.0) == 0
    assert held(buckets) == 1


def test_a_refused_request_stores_no_key() -> None:
    buckets = RateLimiter(60)
    for _ in range(60):
        buckets.acquire("a", 0.0)
    before = dict(buckets._recent)
    assert [buckets.acquire("a", 0.0) > 0 for _ in range(1000)] == [True] * 1000
    assert buckets._recent == before
