"""Deadlines count from the arrival at a trusted proxy, whatever its clock says."""

from dataclasses import dataclass, field

import pytest

from gateway.ingest.arrival import ENOUGH, MAX_AGE, WINDOW, ArrivalDeadlines
from service.config.networks import Networks

WITHIN = 8.0
PROXY = ("10.0.0.7", 4000)


@dataclass
class Clocks:
    """A gateway's clocks, and the proxy's, which is `ahead` of the gateway's."""

    ahead: float = 0.0
    monotonic: float = 100.0
    deadlines: ArrivalDeadlines = field(init=False)

    def __post_init__(self) -> None:
        self.deadlines = ArrivalDeadlines(
            Networks("10.0.0.0/8"), WITHIN, lambda: self.monotonic, self.wall
        )

    def wall(self) -> float:
        return 1_700_000_000 + self.monotonic

    def stamp(self, age: float = 0.0) -> bytes:
        """The header of a request that arrived at the proxy `age` seconds ago."""
        return b"t=%d" % round((self.wall() + self.ahead - age) * 1000)

    def left(self, age: float = 0.0, peer: tuple[str, int] = PROXY) -> float:
        """Seconds to the deadline of a request of this age."""
        return self.deadlines.deadline(peer, self.stamp(age)) - self.monotonic

    def pass_window(self, age: float = 0.0) -> None:
        for _ in range(ENOUGH):
            self.monotonic += WINDOW / ENOUGH
            self.left(age)
        self.monotonic += WINDOW / ENOUGH


def test_a_request_that_was_sent_again_keeps_its_deadline() -> None:
    """Even if it is the first that this gateway gets."""
    clocks = Clocks()
    assert clocks.left(5) == pytest.approx(WITHIN - 5, abs=0.001)
    assert clocks.left(0) == pytest.approx(WITHIN, abs=0.001)
    clocks.pass_window()
    assert clocks.left(5) == pytest.approx(WITHIN - 5, abs=0.001)


def test_nginx_writes_seconds() -> None:
    clocks = Clocks()
    at = clocks.wall() - 5
    left = clocks.deadlines.deadline(PROXY, f"t={at:.3f}".encode()) - clocks.monotonic
    assert left == pytest.approx(WITHIN - 5, abs=0.002)


def test_a_request_older_than_the_time_for_responses_is_past_its_deadline() -> None:
    assert Clocks().left(WITHIN + 1) < 0


def test_only_trusted_proxies_are_believed() -> None:
    assert Clocks().left(5, peer=("192.0.2.1", 4000)) == WITHIN
    assert Clocks().left(5, peer=("unix", 0)) == WITHIN
    trusting_nobody = ArrivalDeadlines(Networks(), WITHIN, lambda: 0.0)
    assert trusting_nobody.deadline(PROXY, b"t=1") == WITHIN
    assert Clocks().deadlines.deadline(None, b"t=1") - 100 == WITHIN


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"t=",
        b"t=-1",
        b"t=1.5",
        b"t=1700000000.",
        b"t=1e9",
        b"now",
        b"t=" + b"9" * 30,
        b"\xff",
    ],
)
def test_invalid_times_are_ignored(header: bytes | None) -> None:
    assert Clocks().deadlines.deadline(PROXY, header) - 100 == WITHIN


@pytest.mark.parametrize("ahead", [0.3, 3.0, 100_000.0])
def test_a_proxy_whose_clock_is_ahead(ahead: float) -> None:
    """The first request shows it; until one has just arrived, ages are too low, never too high."""
    clocks = Clocks(ahead)
    assert clocks.left(0) == WITHIN
    assert clocks.left(5) == pytest.approx(WITHIN - 5, abs=0.002)


@pytest.mark.parametrize("behind", [0.3, 3.0, 20.0])
def test_a_proxy_whose_clock_is_behind_costs_time_only_for_a_while(behind: float) -> None:
    clocks = Clocks(-behind)
    assert clocks.left(0) == pytest.approx(WITHIN - behind, abs=0.002)
    clocks.pass_window()
    assert clocks.left(0) == pytest.approx(WITHIN, abs=0.002)
    assert clocks.left(5) == pytest.approx(WITHIN - 5, abs=0.002)


def test_requests_that_were_all_sent_again_do_not_change_the_difference() -> None:
    """A gateway has died; another one gets its requests all at once, and then new requests."""
    clocks = Clocks()
    for age in range(100):
        clocks.left(1 + age / 20)
    for _ in range(ENOUGH):
        clocks.monotonic += WINDOW / ENOUGH
        clocks.left(0)
    clocks.monotonic += WINDOW
    assert clocks.left(5) == pytest.approx(WITHIN - 5, abs=0.002)


def test_a_clock_that_is_set_is_noticed_at_once() -> None:
    clocks = Clocks()
    clocks.pass_window()
    clocks.ahead = -(MAX_AGE + 1000)
    assert clocks.left(0) == WITHIN
    clocks.ahead = 5000
    assert clocks.left(0) == WITHIN


def test_many_proxies_are_not_remembered_forever() -> None:
    clocks = Clocks()
    for number in range(3000):
        clocks.left(0, peer=(f"10.0.{number >> 8}.{number & 255}", 1))
    assert len(clocks.deadlines._proxies) <= 1000
