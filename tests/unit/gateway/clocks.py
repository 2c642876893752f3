"""Broker clocks for tests that are about something else."""

import time
from collections.abc import Iterable

from gateway.clock import BrokerClock


def taught_clock(partitions: Iterable[int]) -> BrokerClock:
    """A clock that has heard of each partition's leader: it has the time of this machine."""
    clock = BrokerClock()
    for partition in partitions:
        sent, appended = time.monotonic(), time.time_ns() // 1_000_000
        clock.learn(partition, appended, sent, time.monotonic())
    return clock
