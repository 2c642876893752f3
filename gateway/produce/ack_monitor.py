"""Monitors whether Kafka acknowledges records, and sends probes while nothing is acknowledged.

A cluster may respond to every request and acknowledge nothing, for example if too few replicas are
in sync. A gateway without acknowledgements is not ready. A gateway that is not ready gets no
submissions, so it sends probes to find out when Kafka acknowledges again.
"""

import asyncio
import math
import time
from collections.abc import Callable

CHECK_INTERVAL = 1.0
"""Seconds between two checks."""
PROBE_AFTER = 2.0
"""Seconds without acknowledgement after which every partition is probed, so that one missing leader
does not silence the gateway for all other partitions."""
NOT_READY_AFTER = 6.0
"""Seconds without acknowledgement after which the gateway is not ready."""


class AckMonitor:
    """Measures for how long Kafka has acknowledged nothing that was sent. Times are in seconds.

    Before the first acknowledgement that time is infinite, so that a probe is sent at start-up.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._silent_since: float | None = -math.inf

    def on_sent(self, now: float) -> None:
        """Count a record that is sent."""
        self._in_flight += 1
        if self._silent_since is None:
            self._silent_since = now

    def on_acknowledged(self, now: float) -> None:
        """Count a record that was acknowledged."""
        self._in_flight -= 1
        self._silent_since = now if self._in_flight else None

    def on_failed(self, sent_at: float) -> None:
        """Count a record, sent at `sent_at`, that failed."""
        self._in_flight -= 1
        if not self._in_flight and self._silent_since is not None and self._silent_since > sent_at:
            self._silent_since = None  # records sent later were acknowledged

    def seconds_silent(self, now: float | None = None) -> float:
        """Return the seconds since the first unacknowledged record after the last acknowledgement
        was sent."""
        if self._silent_since is None:
            return 0.0
        return (time.monotonic() if now is None else now) - self._silent_since


async def probe_when_silent(
    is_silent: Callable[[], bool], request_probe: Callable[[], None]
) -> None:
    """Call `request_probe` in intervals while `is_silent` returns True. Runs until cancelled."""
    while True:
        if is_silent():
            request_probe()
        await asyncio.sleep(CHECK_INTERVAL)
