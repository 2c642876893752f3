"""Cluster time: the current time of the brokers' clocks, which all expiries are compared with.

A gateway's own wall clock may be days off, and expiry times are shared by all gateways. So the
expiry of keys, tokens, revocations and removals is set and compared in the time that follows from
Kafka's acknowledgements (gateway.produce.broker_clock). The wall clock is not used. Until a broker
has acknowledged a record, the time is unknown and no credential is accepted.
"""

import asyncio
from collections.abc import Callable, Hashable

from gateway.produce.broker_clock import BrokerClock
from service.clock import uptime

OBSERVE_EVERY = 1.0
"""Minimum seconds between two acknowledgements of a leader that are evaluated."""
PROBE_AFTER = 60.0
"""Age in seconds of the newest acknowledgement after which a probe is sent."""


class ClusterTime:
    """The time of the brokers, whose clocks may differ.

    `uptime` returns seconds of a clock that never goes back and continues while the machine sleeps.
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
        """Wait until a broker has acknowledged a record."""
        await self._known.wait()

    def age(self) -> float:
        """Return the seconds since the newest evaluated acknowledgement."""
        return self._uptime() - self._observed_at

    def observe(self, leader: Hashable, appended: int, seconds: float) -> None:
        """Evaluate an acknowledgement from `leader`, received `seconds` after the record was sent.

        `appended` is the record's append time in milliseconds since the epoch.
        """
        now = self._uptime()
        if now < self._observed.get(leader, float("-inf")) + OBSERVE_EVERY:
            return
        self._highest = self.highest_seconds()
        self._observed[leader] = self._observed_at = now
        low, high = self._leaders.observe(leader, appended, now - seconds, now)
        # Wider bounds take effect at once. Narrower bounds need all leaders, so at most once a
        # second.
        if now >= self._compared_at + OBSERVE_EVERY:
            self._compared_at = now
            self._earliest, self._latest = self._leaders.differences(now)
        else:
            self._earliest, self._latest = min(self._earliest, low), max(self._latest, high)
        self._known.set()

    def earliest_ms(self) -> int:
        """Return the lowest time of any broker's clock, in milliseconds since the epoch."""
        return int(self._uptime() * 1000 + self._earliest)

    def latest_ms(self) -> int:
        """Return an upper bound of all brokers' clocks, in milliseconds since the epoch."""
        return int(self._uptime() * 1000 + self._latest) + 1

    def earliest_seconds(self) -> float:
        """Return the lowest time of any broker's clock, in seconds since the epoch."""
        return self._uptime() + self._earliest / 1000

    def latest_seconds(self) -> float:
        """Return the highest time of any broker's clock, in seconds since the epoch."""
        return self._uptime() + self._latest / 1000

    def highest_seconds(self) -> float:
        """Return the highest time that any broker's clock has shown, in seconds since the epoch.

        A broker's clock may be set back; what was valid before stays valid.
        """
        return max(self._highest, self.latest_seconds() if self.is_known else 0.0)
