"""Broker time: the lower bound is never above the truth, and never far below it."""

from dataclasses import dataclass

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.clock import DRIFT, MAX_DRIFT_MS, BrokerClock

EPOCH_MS = 1_800_000_000_000


@dataclass
class Broker:
    """A broker whose clock is `offset` ms off, and gains `drift` seconds a second."""

    offset: float
    drift: float = 0.0

    def time(self, moment: float) -> float:
        return EPOCH_MS + self.offset + moment * 1000 * (1 + self.drift)


latencies = st.floats(0, 5)
rounds = st.lists(st.tuples(st.floats(0.001, 60), latencies, latencies), min_size=1, max_size=20)
offsets = st.floats(-1e9, 1e9)
gaps = st.floats(0, 3)


def play(
    clock: BrokerClock, broker: Broker, exchanges: list[tuple[float, float, float]], start: float
) -> float:
    """Let the clock hear of appends; return the moment of the last acknowledgement."""
    moment = start
    for pause, there, back in exchanges:
        sent = moment + pause
        moment = sent + there + back
        clock.learn(0, int(broker.time(sent + there)), sent, moment)
    return moment


@given(offsets, rounds, gaps, st.floats(0, 1e6))
def test_the_bound_never_exceeds_the_truth_of_a_steady_clock(
    offset: float, exchanges: list[tuple[float, float, float]], ahead: float, start: float
) -> None:
    broker, clock = Broker(offset), BrokerClock(0)
    now = play(clock, broker, exchanges, start)
    assert clock.at_least(0, now + ahead, now) <= broker.time(now + ahead) + 0.01


@given(offsets, st.floats(-DRIFT, DRIFT), rounds, gaps)
def test_nor_of_one_that_drifts(
    offset: float, drift: float, exchanges: list[tuple[float, float, float]], ahead: float
) -> None:
    broker, clock = Broker(offset, drift), BrokerClock(0)
    now = play(clock, broker, exchanges, 1000.0)
    deadline = now + ahead
    # What it may drift until the deadline itself is not in the bound, but far below 1 ms.
    assert clock.at_least(0, deadline, now) <= broker.time(deadline) + abs(drift) * ahead * 1000 + 1


@given(offsets, rounds)
def test_the_bound_is_as_near_as_the_quickest_way_back(
    offset: float, exchanges: list[tuple[float, float, float]]
) -> None:
    broker, clock = Broker(offset), BrokerClock(0)
    now = play(clock, broker, exchanges, 0.0)
    quickest = min(back for _, _, back in exchanges)
    passed = sum(sum(exchange) for exchange in exchanges)
    allowed = quickest * 1000 + 1 + passed * 1000 * DRIFT + 1
    assert clock.at_least(0, now, now) >= broker.time(now) - allowed


@given(offsets, rounds, st.floats(-1e7, 1e7), latencies, latencies)
def test_after_a_clock_was_set_only_the_newest_counts(
    offset: float,
    exchanges: list[tuple[float, float, float]],
    step: float,
    there: float,
    back: float,
) -> None:
    widest = sum(exchange[1] + exchange[2] for exchange in exchanges) + there + back
    assume(abs(step) > widest * 1000 + MAX_DRIFT_MS * len(exchanges) + 10)
    broker, clock = Broker(offset), BrokerClock(0)
    now = play(clock, broker, exchanges, 0.0)
    stepped = Broker(offset + step)
    now = play(clock, stepped, [(0.01, there, back)], now)
    assert clock.at_least(0, now, now) <= stepped.time(now) + 0.01
    assert clock.at_least(0, now, now) >= stepped.time(now) - back * 1000 - 1.01


@given(offsets, rounds, gaps)
def test_answer_by_is_before_the_deadline_even_in_whole_milliseconds(
    offset: float, exchanges: list[tuple[float, float, float]], ahead: float
) -> None:
    broker, clock = Broker(offset), BrokerClock(0)
    now = play(clock, broker, exchanges, 0.0)
    deadline = now + ahead
    assert clock.answer_by(0, deadline, now) < int(broker.time(deadline) + 0.01)


def test_the_wall_clock_stands_in_before_the_first_acknowledgement() -> None:
    clock = BrokerClock(wall_offset=EPOCH_MS)
    assert clock.at_least(3, 8.0, 0.0) == EPOCH_MS + 8000
    assert clock.answer_by(3, 8.0, 0.0) == EPOCH_MS + 7999


def test_a_partition_without_acknowledgements_goes_by_the_newest_of_another() -> None:
    clock = BrokerClock(wall_offset=0)
    clock.learn(0, EPOCH_MS + 5, sent=0.0, acknowledged=0.01)
    clock.learn(1, EPOCH_MS + 9_000, sent=0.0, acknowledged=0.01)
    assert clock.at_least(2, 1.0, 0.01) == clock.at_least(1, 1.0, 0.01)
    assert clock.at_least(0, 1.0, 0.01) < clock.at_least(1, 1.0, 0.01)


def test_an_idle_day_blurs_the_bound_by_a_second_at_most() -> None:
    clock = BrokerClock(wall_offset=0)
    clock.learn(0, EPOCH_MS, sent=0.0, acknowledged=0.0)
    day = 86_400.0
    assert clock.at_least(0, day, day) == EPOCH_MS + day * 1000 - MAX_DRIFT_MS
