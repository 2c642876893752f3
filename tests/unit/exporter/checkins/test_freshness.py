"""While Kafka or a processor is unavailable, states are as of the time of the data."""

from typing import Any, cast

import pytest

from contract.ledger import LedgerRow, empty_ledger
from exporter.checkins.freshness import Freshness


class Answers:
    """Kafka's last response, instead of a tailer and a source lag monitor."""

    def __init__(self) -> None:
        self.silent = 0.5
        self.caught_up = True
        self.lags = {0: 0, 1: 0}

    def seconds_since_response(self) -> float:
        return self.silent

    def lag(self) -> dict[int, int]:
        return self.lags


class World:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.ledgers: dict[int, LedgerRow] = {0: empty_ledger(), 1: empty_ledger()}
        self.answers = cast(Any, Answers())
        self.freshness = Freshness(self.ledgers, self.answers, self.answers, lambda: self.now)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.freshness.observe()


@pytest.fixture
def world() -> World:
    world = World()
    world.freshness.observe()
    return world


def test_data_is_current_while_everything_responds(world: World) -> None:
    assert world.freshness.as_of() == world.now
    world.pass_time(3600)
    world.answers.lags[1] = 1  # one submission, in flight for a moment
    assert world.freshness.as_of() == world.now


def test_states_stay_as_of_the_time_when_the_processors_went_away(world: World) -> None:
    stopped = world.now
    world.answers.lags[1] = 7
    world.pass_time(9)
    assert world.freshness.as_of() == world.now, "a rebalance takes a few seconds"
    world.pass_time(600)
    assert world.freshness.as_of() == stopped
    assert world.freshness.seconds_late() == 609


def test_an_exporter_that_starts_meanwhile_knows_it_from_the_ledger() -> None:
    world = World()
    world.answers.lags[1] = 7
    world.ledgers[1].newest = int((world.now - 500) * 1000)
    world.freshness.observe()
    assert world.freshness.as_of() == world.now - 500


def test_a_backlog_that_is_being_caught_up_advances_the_time(world: World) -> None:
    world.answers.lags[0] = 9000
    world.pass_time(100)
    world.ledgers[0].newest = int((world.now - 40) * 1000)
    assert world.freshness.as_of() == world.now - 40
    world.answers.lags[0] = 0
    world.pass_time(1)
    assert world.freshness.as_of() == world.now


def test_without_kafka_states_are_those_of_its_last_response(world: World) -> None:
    world.answers.silent = 120
    assert world.freshness.as_of() == world.now - 120


def test_the_rate_is_that_of_the_last_half_minute(world: World) -> None:
    assert World().freshness.submissions_per_second() is None
    for _ in range(60):
        world.ledgers[0].read += 25
        world.pass_time(1)
    assert world.freshness.submissions_per_second() == 25


def test_ledgers_that_are_read_at_the_start_are_no_submissions(world: World) -> None:
    world.answers.caught_up = False
    world.pass_time(2)
    world.ledgers[0].read = 11_012
    world.pass_time(1)
    assert world.freshness.submissions_per_second() is None
    world.answers.caught_up = True
    world.pass_time(1)
    assert world.freshness.submissions_per_second() is None
    world.pass_time(9)
    assert world.freshness.submissions_per_second() == 0
