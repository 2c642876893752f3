"""A countdown that is set again for each request and hardly ever ends."""

import asyncio
from collections.abc import Callable

NEVER = float("inf")
_COARSE = 0.001
"""Seconds by which a loop's timer may fire early."""


class Countdown:
    """Calls `end` when the time that was set last is over.

    Its one timer follows what was set when it fires: that costs far less than a timer a request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        self._loop = loop
        self._end = end
        self._ends_at = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER

    @property
    def runs(self) -> bool:
        return self._ends_at != NEVER

    def stop(self) -> None:
        """Let it not end, until it is set again. The timer stays."""
        self._ends_at = NEVER

    def set(self, seconds: float) -> None:
        """Let it end after so long, whatever was set before."""
        self._ends_at = self._loop.time() + seconds
        if self._ends_at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._ends_at
            self._timer = self._loop.call_later(seconds, self._on_time)

    def drop(self) -> None:
        """Let it never end."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = NEVER

    def _on_time(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if not self.runs:
            return
        left = self._ends_at - self._loop.time()
        if left <= _COARSE:
            self._end()
        else:
            self.set(left)
