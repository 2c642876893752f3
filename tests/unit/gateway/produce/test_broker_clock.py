"""Broker time: the lower bound never exceeds the true time, and is close to it."""

from dataclasses import dataclass

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.produce.broker_clock import DRIFT, MAX_AGE, BrokerClock

EPOCH_MS = 1_800_000_000_000
ROUNDING = 0.01
"""Rounding error of floating-point numbers of this size, in milliseconds."""


@dataclass
class SimulatedBroker:
    """A broker whose clock differs by `offset` ms, and gains `drift` seconds per second."""

    offset: float
    drift: float = 0.0

    def time(self, moment: float) -> float:
        return EPOCH_MS + self.offset + moment * 1000 * (1 + self.drift)


latencies = st.floats(0, 5)
rounds = st.lists(st.tuples(st.floats(0.001, 60), latencies, latencies), min_size=1, max_size=20)
brokers = st.builds(SimulatedBroker, st.floats(-1e9, 1e9), st.floats(-DRIFT, DRIFT))
ahead = st.floats(0, MAX_AGE)


def play(
    clock: BrokerClock,
    broker: SimulatedBroker,
    exchanges: list[tuple[float, float, float]],
    start: float,
) -> float:
    """Let the clock observe appends; return the time of the last acknowledgement."""
    moment = start
    for pause, there, back in exchanges:
        sent = moment + pause
        moment = sent + there + back
        clock.observe(0, int(broker.time(sent + there)), sent, moment)
    return moment


@given(brokers, rounds, ahead, st.floats(0, 1e6))
def test_the_lower_bound_never_exceeds_the_broker_time(
    broker: SimulatedBroker, exchanges: list[tuple[float, float, float]], ahead: float, start: float
) -> None:
    clock = BrokerClock()
    moment = play(clock, broker, exchanges, start) + ahead
    assert clock.earliest_time(0, moment) <= broker.time(moment) + ROUNDING


def test_the_bound_allows_for_drift_until_the_deadline() -> None:
    broker, clock = SimulatedBroker(0, drift=-DRIFT), BrokerClock()
    now = play(clock, broker, [(0.001, 0.0, 0.0)], 1000.0)
    deadline = now + 8
    assert clock.earliest_time(0, deadline) <= broker.time(deadline) + ROUNDING
    assert clock.earliest_time(0, deadline) >= broker.time(deadline) - 8 * 1000 * 2 * DRIFT - 1


@given(brokers, rounds)
def test_the_bound_is_as_tight_as_the_fastest_acknowledgement(
    broker: SimulatedBroker, exchanges: list[tuple[float, float, float]]
) -> None:
    clock = BrokerClock()
    now = play(clock, broker, exchanges, 0.0)
    quickest = min(back for _, _, back in exchanges)
    passed = sum(sum(exchange) for exchange in exchanges)
    allowed = quickest * 1000 + 1 + passed * 1000 * 3 * DRIFT + 1
    assert clock.earliest_time(0, now) >= broker.time(now) - allowed


@given(brokers, rounds, st.floats(-1e7, 1e7), latencies, latencies)
def test_after_a_clock_was_set_only_the_newest_acknowledgement_counts(
    broker: SimulatedBroker,
    exchanges: list[tuple[float, float, float]],
    step: float,
    there: float,
    back: float,
) -> None:
    passed = sum(sum(exchange) for exchange in exchanges) + there + back + 0.01
    widest = sum(exchange[1] + exchange[2] for exchange in exchanges) + there + back
    assume(abs(step) > widest * 1000 + passed * 1000 * 4 * DRIFT + 10)
    clock = BrokerClock()
    now = play(clock, broker, exchanges, 0.0)
    stepped = SimulatedBroker(broker.offset + step, broker.drift)
    now = play(clock, stepped, [(0.01, there, back)], now)
    assert clock.earliest_time(0, now) <= stepped.time(now) + ROUNDING
    assert clock.earliest_time(0, now) >= stepped.time(now) - back * 1000 * (1 + 2 * DRIFT) - 1.01


@given(brokers, rounds, ahead)
def test_the_latest_append_time_is_before_the_deadline_in_whole_milliseconds(
    broker: SimulatedBroker, exchanges: list[tuple[float, float, float]], ahead: float
) -> None:
    clock = BrokerClock()
    deadline = play(clock, broker, exchanges, 0.0) + ahead
    assert clock.latest_append_time(0, deadline) < int(broker.time(deadline) + ROUNDING)


def test_the_time_of_an_unknown_leader_is_not_guessed() -> None:
    clock = BrokerClock()
    assert not clock.is_fresh(0, now=0.0)
    clock.observe(0, EPOCH_MS, sent_at=0.0, acknowledged_at=0.01)
    assert clock.is_fresh(0, now=0.01)
    assert not clock.is_fresh(1, now=0.01)


def test_each_leader_has_its_own_clock() -> None:
    clock = BrokerClock()
    clock.observe(0, EPOCH_MS + 5, sent_at=0.0, acknowledged_at=0.01)
    clock.observe(1, EPOCH_MS + 9_000, sent_at=0.0, acknowledged_at=0.01)
    assert round(clock.earliest_time(1, 1.0) - clock.earliest_time(0, 1.0)) == 8_995


def test_the_time_of_a_leader_becomes_stale() -> None:
    clock = BrokerClock()
    clock.observe(0, EPOCH_MS, sent_at=0.0, acknowledged_at=0.0)
    assert clock.is_fresh(0, now=MAX_AGE)
    assert not clock.is_fresh(0, now=MAX_AGE + 1)
    assert EPOCH_MS - 150 < clock.earliest_time(0, MAX_AGE) - MAX_AGE * 1000 < EPOCH_MS
