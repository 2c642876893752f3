"""Rule 7, third part: do not fold while the group may already have given the partitions away.

A frozen coordinator evicts a worker whose own clock is fine. The age of the last heartbeat that
was answered, counted from when it was sent, tells.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from service.kafka.aiokafka_compat import wrap_heartbeat

POLL_INTERVAL = 0.05
MAX_AGE = 0.6
"""Part of a session within which a heartbeat must have been answered."""


class HeartbeatMonitor:
    """Watches the heartbeats of an aiokafka consumer (which runs in a thread of its own)."""

    def __init__(self, session: float) -> None:
        self._limit = MAX_AGE * session
        self._last_response = float("-inf")
        self._coordinator: Any = None
        self.member = ""
        """What the group calls this worker; empty before it has joined."""

    def age(self) -> float:
        """Seconds since the last answered heartbeat was sent."""
        return time.monotonic() - self._last_response

    def on_joined(self, coordinator: Any) -> None:
        """Take note that the group has just answered a join, and watch this coordinator."""
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
        """Wait until the group has lately said that this worker is a member."""
        while self.age() > self._limit:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(POLL_INTERVAL)
