"""Linger: how long submissions wait, so that many leave in one request to Kafka.

A request to Kafka, a frame, a fetch and a flush cost the same whatever they hold, so submissions
that come alone pay for all of them. While there is load, all partitions' frames leave together,
at the end of a window that opens with the first submission after the last flush.

- A submission that finds the process idle leaves at once.
- The window grows with the rate of arrivals, from 0 to the longest linger.
- Senders that wait for a response before they send again (a load test, a proxy with few
  connections) all wait after a burst: nothing more comes, and the rest of the window would be
  lost. A window that follows such a window therefore ends as soon as its burst does.
- A flush as large as one frame, or with a submission close to its deadline, leaves at once.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

from gateway.produce.frame_limits import MAX_FRAME_BYTES, MAX_FRAME_SUBMISSIONS

RATE_SECONDS = 0.5
"""Time constant in seconds of the average rate of arrivals."""
GROWTH = 4
"""The window is longest once this many more than one arrive within it on average."""
MIN_WINDOW = 0.001
"""Seconds. A shorter window counts as 0; a burst ends after a silence of at least this long."""
BURST_GAPS = 6
"""A burst is over after a silence of this many mean gaps. At random intervals, 1 of 400 is."""
GAP_MEMORY = 0.8
"""Weight of earlier windows in the mean gap."""
ALONE_WINDOWS = 3
"""After this many consecutive windows with one arrival each, an arrival is sent at once if no frame
is in flight."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Linger:
    """When the frames of all partitions of a process leave. `longest` is in seconds; 0: at once.

    `margin` is the time to its deadline, in seconds, below which a submission does not wait.
    """

    def __init__(
        self,
        longest: float,
        margin: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        self._longest = longest
        self._margin = margin + 2 * longest
        self._now = now
        self._call_later = call_later or _on_running_loop
        self._stopped = longest == 0
        self._flushed = 0
        """Number of flushes."""
        self._due = asyncio.Event()
        self._in_flight = 0
        self._rate_weight = 0.0
        """Arrivals, each weighted by its age at the time `_weighted_at`: the rate times
        RATE_SECONDS. Those of the open window are added at its end."""
        self._weighted_at = self._last_arrival = -math.inf
        self._alone = 0
        """Number of consecutive windows with one arrival."""
        self._in_bursts = False
        """Whether nothing came after the burst that the last window began with."""
        self._gap_sum = self._gap_count = 0.0
        # Of the open window:
        self._timer: Timer | None = None
        self._began_at = self._ends_at = 0.0
        self._arrivals = self._submissions = self._bytes = 0

    def arrive(self, submissions: int, size: int, deadline: float) -> int:
        """Count an arrival; return the number of the flush that it leaves with."""
        flush = self._flushed + 1
        if self._stopped:
            return self._flushed
        now, before = self._now(), self._last_arrival
        self._last_arrival = now
        self._arrivals += 1
        self._submissions += submissions
        self._bytes += size
        if (
            self._submissions >= MAX_FRAME_SUBMISSIONS
            or self._bytes >= MAX_FRAME_BYTES
            or deadline - now < self._margin
            or (self._arrivals == 1 and not self._opens(now, now - before))
        ):
            self._flush()
        return flush

    async def wait(self, flush: int) -> None:
        """Wait until the flush of this number is due."""
        while flush > self._flushed:
            await self._due.wait()

    def on_sent(self) -> None:
        """Take note of a frame that leaves."""
        self._in_flight += 1

    def on_landed(self) -> None:
        """Take note that one was acknowledged or has failed."""
        self._in_flight -= 1

    def stop(self) -> None:
        """Let everything leave at once from now on."""
        self._stopped = True
        self._flush()

    def _opens(self, now: float, gap: float) -> bool:
        """Open a window, unless its first arrival leaves at once."""
        self._began_at = now
        age = now - self._weighted_at
        expected = (self._rate_weight * math.exp(-age / RATE_SECONDS) + 1) / RATE_SECONDS
        expected *= self._longest
        window = min(1.0, (expected - 1) / GROWTH) * self._longest
        if window < MIN_WINDOW:
            return False
        if self._in_flight:
            self._alone = 0
        elif gap > window or self._alone >= ALONE_WINDOWS:
            return False
        self._ends_at = now + window
        self._start_timer(now)
        return True

    def _start_timer(self, now: float) -> None:
        ends_at = self._ends_at
        if self._in_bursts:
            ends_at = min(ends_at, self._last_arrival + self._burst_silence())
        self._timer = self._call_later(max(MIN_WINDOW, ends_at - now), self._on_timer)

    def _burst_silence(self) -> float:
        """Seconds without an arrival after which a burst is over."""
        gaps = self._gap_count + self._arrivals - 1
        if gaps <= 0:
            return math.inf
        total = self._gap_sum + self._last_arrival - self._began_at
        return max(MIN_WINDOW, BURST_GAPS * total / gaps)

    def _on_timer(self) -> None:
        now = self._now()
        silence = now - self._last_arrival
        is_over = silence >= self._burst_silence()
        if now < self._ends_at and not (self._in_bursts and is_over):
            self._start_timer(now)
            return
        if self._arrivals > 1:
            self._in_bursts = is_over
            self._alone = 0
        else:
            self._alone += 1
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._arrivals > 1:
            self._gap_sum = GAP_MEMORY * (self._gap_sum + self._last_arrival - self._began_at)
            self._gap_count = GAP_MEMORY * (self._gap_count + self._arrivals - 1)
        if self._arrivals:
            age = self._last_arrival - self._weighted_at
            self._rate_weight = self._rate_weight * math.exp(-age / RATE_SECONDS) + self._arrivals
            self._weighted_at = self._last_arrival
        self._arrivals = self._submissions = self._bytes = 0
        self._flushed += 1
        due, self._due = self._due, asyncio.Event()
        due.set()


def _on_running_loop(seconds: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, callback)
