"""Cluster time: what the brokers' clocks say now, which is the time that everything is judged by.

A gateway's own wall clock may be days off, and no other gateway must suffer from that: what ends
and when is written down for all. So ends of keys, tokens, revocations and removals are set and
compared in the time that Kafka's acknowledgements tell (gateway.produce.broker_clock), and the
wall clock is not
asked. Until a broker has acknowledged something the time is not known, and no credential is
accepted.
"""

import asyncio
from collections.abc import Callable, Hashable

from gateway.produce.broker_clock import BrokerClock
from service.kafka.tombstones import uptime

OBSERVE_EVERY = 1.0
"""Seconds between two acknowledgements of a leader that are taken note of."""
ASK_AFTER = 60.0
"""Age in seconds of the newest acknowledgement after which a broker is asked for its time."""


class ClusterTime:
    """The time of the cluster's brokers, whose clocks may differ.

    `uptime` is in seconds of a clock that never goes back and goes on while the machine sleeps.
    """

    def __init__(self, uptime: Callable[[], float] = uptime) -> None:
        self._uptime = uptime
        self._leaders = BrokerClock()
        self._observed: dict[Hashable, float] = {}
        self._observed_at = self._compared_at = float("-inf")
        self._earliest = self._latest = 0.0
        self._highest = 0.0
        self._known = asyncio.Event()

    @property
    def is_known(self) -> bool:
        return self._known.is_set()

    async def wait_until_known(self) -> None:
        """Wait until a broker has acknowledged something."""
        await self._known.wait()

    def age(self) -> float:
        """Seconds since the newest acknowledgement that was taken note of."""
        return self._uptime() - self._observed_at

    def observe(self, leader: Hashable, appended: int, seconds: float) -> None:
        """Take note of a record that `leader` has just acknowledged, `seconds` after it was sent.

        `appended` is its append time, in milliseconds since the epoch.
        """
        now = self._uptime()
        if now < self._observed.get(leader, float("-inf")) + OBSERVE_EVERY:
            return
        self._highest = self.highest_seconds()
        self._observed[leader] = self._observed_at = now
        low, high = self._leaders.observe(leader, appended, now - seconds, now)
        # Wider bounds take effect at once; narrower ones, which need all leaders, once a second.
        if now >= self._compared_at + OBSERVE_EVERY:
            self._compared_at = now
            self._earliest, self._latest = self._leaders.differences(now)
        else:
            self._earliest, self._latest = min(self._earliest, low), max(self._latest, high)
        self._known.set()

    def earliest_ms(self) -> int:
        """Milliseconds since the epoch: no broker's clock says less."""
        return int(self._uptime() * 1000 + self._earliest)

    def latest_ms(self) -> int:
        """Milliseconds since the epoch: no broker's clock says more."""
        return int(self._uptime() * 1000 + self._latest) + 1

    def earliest_seconds(self) -> float:
        """Seconds since the epoch: no broker's clock says less."""
        return self._uptime() + self._earliest / 1000

    def latest_seconds(self) -> float:
        """Seconds since the epoch: no broker's clock says more."""
        return self._uptime() + self._latest / 1000

    def highest_seconds(self) -> float:
        """Seconds since the epoch: no broker's clock has ever said more, as far as is known here.

        Brokers' clocks may be set back; what has begun by this time has begun.
        """
        return max(self._highest, self.latest_seconds() if self.is_known else 0.0)
