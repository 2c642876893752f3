"""Clocks of brokers for tests that are about something else."""

import time
from collections.abc import Iterable

from gateway.produce.broker_clock import BrokerClock
from gateway.produce.cluster_time import ClusterTime


def cluster_time() -> ClusterTime:
    """A cluster whose brokers have the time of this machine."""
    made = ClusterTime()
    made.observe("broker", time.time_ns() // 1_000_000, 0.0)
    return made


def taught_clock(partitions: Iterable[int]) -> BrokerClock:
    """A clock that has heard of each partition's leader: it has the time of this machine."""
    clock = BrokerClock()
    for partition in partitions:
        sent, appended = time.monotonic(), time.time_ns() // 1_000_000
        clock.observe(partition, appended, sent, time.monotonic())
    return clock
