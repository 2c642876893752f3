"""Cluster time: bounds of all brokers' clocks, at a cost independent of the number of
partitions."""

import time
from collections.abc import Hashable

import pytest

from gateway.produce.broker_clock import BrokerClock
from gateway.produce.cluster_time import OBSERVE_EVERY, ClusterTime

NOW = 1_700_000_000.0
HOUR = 3600.0


class Cluster:
    """A gateway that has been running for a while, and brokers whose clocks may differ."""

    def __init__(self) -> None:
        self.uptime = 1_000.0
        self.time = ClusterTime(lambda: self.uptime)

    def pass_by(self, seconds: float) -> None:
        self.uptime += seconds

    def observe(self, partition: Hashable, ahead: float = 0.0) -> None:
        appended = int((NOW + self.uptime + ahead) * 1000)
        self.time.observe(partition, appended, 0.01)

    def earliest(self) -> float:
        return self.time.earliest_seconds() - NOW - self.uptime

    def latest(self) -> float:
        return self.time.latest_seconds() - NOW - self.uptime

    def highest(self) -> float:
        return self.time.highest_seconds() - NOW - self.uptime


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.observe("a")
    return made


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=0.2)


def test_a_deviating_clock_takes_effect_at_once(cluster: Cluster) -> None:
    cluster.observe("behind", -HOUR)
    assert (cluster.earliest(), cluster.latest()) == (about(-HOUR), about(0))
    cluster.observe("ahead", HOUR)
    assert (cluster.earliest(), cluster.latest()) == (about(-HOUR), about(HOUR))
    assert cluster.time.earliest_ms() / 1000 == pytest.approx(cluster.time.earliest_seconds(), 1e-9)
    assert cluster.time.latest_ms() / 1000 == pytest.approx(cluster.time.latest_seconds(), 1e-9)


def test_a_corrected_clock_takes_effect_within_a_second(cluster: Cluster) -> None:
    cluster.observe("b", -HOUR)
    cluster.pass_by(OBSERVE_EVERY)
    cluster.observe("a")
    assert cluster.earliest() == about(-HOUR)
    cluster.observe("b")
    cluster.pass_by(OBSERVE_EVERY)
    cluster.observe("a")
    assert (cluster.earliest(), cluster.latest()) == (about(0), about(0))


def test_the_highest_time_does_not_go_back(cluster: Cluster) -> None:
    cluster.pass_by(30)
    reached = cluster.time.highest_seconds()
    cluster.observe("a", -HOUR)
    cluster.pass_by(OBSERVE_EVERY)
    cluster.observe("a", -HOUR)
    assert cluster.latest() == about(-HOUR)
    assert cluster.time.highest_seconds() >= reached
    cluster.pass_by(HOUR)
    cluster.observe("a", -HOUR)
    cluster.pass_by(60)
    assert cluster.highest() == about(-HOUR)


def test_time_is_unknown_before_the_first_acknowledgement() -> None:
    assert ClusterTime().highest_seconds() == 0


def test_bounds_include_all_leaders(cluster: Cluster) -> None:
    """After the next comparison the bounds are those of all leaders, whatever was observed
    before."""
    leaders = BrokerClock()
    for second in range(5):
        cluster.pass_by(OBSERVE_EVERY)
        for partition in range(20):
            ahead = (partition * 7 + second * 3) % 10 - 5
            cluster.observe(partition, ahead)
            sent, now = cluster.uptime - 0.01, cluster.uptime
            leaders.observe(partition, int((NOW + now + ahead) * 1000), sent, now)
            cluster.pass_by(0.01)
        low, high = leaders.differences(cluster.uptime)
        assert cluster.earliest() <= low / 1000 - NOW + 0.01
        assert cluster.latest() >= high / 1000 - NOW - 0.01


def test_the_cost_of_an_acknowledgement_does_not_grow_with_partitions() -> None:
    def seconds(partitions: int) -> float:
        """Return the CPU time of one observation for each partition, at the same time."""
        cluster = Cluster()
        for partition in range(partitions):
            cluster.observe(partition)
        times = []
        for _ in range(5):
            cluster.pass_by(1.1)
            began = time.thread_time()
            for partition in range(partitions):
                cluster.observe(partition)
            times.append(time.thread_time() - began)
        return min(times)

    assert seconds(2_000) < 8 * seconds(500)
