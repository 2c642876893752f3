"""Broker clocks for tests of other features."""

import time
from collections.abc import Iterable

from gateway.produce.broker_clock import BrokerClock
from gateway.produce.cluster_time import ClusterTime


def cluster_time() -> ClusterTime:
    """A cluster whose brokers have this machine's time."""
    made = ClusterTime()
    made.observe("broker", time.time_ns() // 1_000_000, 0.0)
    return made


def taught_clock(partitions: Iterable[int]) -> BrokerClock:
    """A clock that knows each partition's leader, with this machine's time."""
    clock = BrokerClock()
    for partition in partitions:
        sent, appended = time.monotonic(), time.time_ns() // 1_000_000
        clock.observe(partition, appended, sent, time.monotonic())
    return clock
