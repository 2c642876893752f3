"""Rule 7, third part: stops processing when the group may have reassigned the partitions.

A frozen coordinator evicts a worker whose own clock is fine. The worker detects that by the age of
the last confirmed heartbeat, measured from when it was sent.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from service.kafka.aiokafka_compat.coordinator import wrap_heartbeat

POLL_INTERVAL = 0.05
MAX_AGE = 0.6
"""Fraction of a session within which a heartbeat must be confirmed."""


class HeartbeatMonitor:
    """Monitors the heartbeats of an aiokafka consumer, which runs in another thread."""

    def __init__(self, session: float) -> None:
        self._limit = MAX_AGE * session
        self._last_response = float("-inf")
        self._coordinator: Any = None
        self.member = ""
        """Member id in the group; empty before the first join."""

    def age(self) -> float:
        """Return the seconds since the last confirmed heartbeat was sent."""
        return time.monotonic() - self._last_response

    def on_joined(self, coordinator: Any) -> None:
        """Record a successful join, and monitor this coordinator."""
        self._last_response = time.monotonic()
        self.member = coordinator.member_id
        if coordinator is self._coordinator:
            return
        self._coordinator = coordinator
        wrap_heartbeat(coordinator, self._recording)

    def _recording(self, send: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
        async def watched() -> bool:
            sent = time.monotonic()
            succeeded = await send()
            if succeeded:
                self._last_response = max(self._last_response, sent)
            return succeeded

        return watched

    async def wait_until_fresh(self) -> None:
        """Wait until the group has confirmed the membership recently."""
        while self.age() > self._limit:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(POLL_INTERVAL)
