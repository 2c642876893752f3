"""The pulse: whether Kafka confirms anything, felt for where there is nothing to send.

A cluster may answer every question and confirm nothing, for want of brokers that are in sync. A
gateway that cannot be answered for is not ready; and since nobody sends anything to one that is
not ready, it has to find out by itself that it can be again.
"""

import asyncio
import math
import time
from collections.abc import Callable

CHECK_INTERVAL = 1.0
"""Seconds between two looks."""
PROBE_AFTER = 2.0
"""Seconds of silence after which every partition's leader is asked: one that is missing must not
make a gateway silent that could send to all others."""
NOT_READY_AFTER = 6.0
"""Seconds of silence after which a gateway is not ready."""


class AckMonitor:
    """How long Kafka has confirmed nothing of what was sent. Moments are in seconds.

    Who has sent nothing yet knows nothing: for ever, so that the pulse asks at a start.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._silent_since: float | None = -math.inf

    def on_sent(self, now: float) -> None:
        """Take note of a record that leaves."""
        self._in_flight += 1
        if self._silent_since is None:
            self._silent_since = now

    def on_acknowledged(self, now: float) -> None:
        """Take note that one was confirmed."""
        self._in_flight -= 1
        self._silent_since = now if self._in_flight else None

    def on_failed(self, sent_at: float) -> None:
        """Take note that one was given up, which left at `sent`."""
        self._in_flight -= 1
        if not self._in_flight and self._silent_since is not None and self._silent_since > sent_at:
            self._silent_since = None  # others were confirmed meanwhile

    def seconds_silent(self, now: float | None = None) -> float:
        """Seconds since the first that was sent after the last one that was confirmed."""
        if self._silent_since is None:
            return 0.0
        return (time.monotonic() if now is None else now) - self._silent_since


async def probe_when_silent(
    is_silent: Callable[[], bool], request_probe: Callable[[], None]
) -> None:
    """Let `request_probe` send something for as long as there is silence. Runs until cancelled."""
    while True:
        if is_silent():
            request_probe()
        await asyncio.sleep(CHECK_INTERVAL)
