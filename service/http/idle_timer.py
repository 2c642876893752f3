"""A countdown that is set again for each request and hardly ever ends."""

import asyncio
from collections.abc import Callable

NEVER = float("inf")
_TIMER_RESOLUTION = 0.001
"""Seconds by which a loop's timer may fire early."""


class IdleTimer:
    """Calls `callback` when the time that was set last is over.

    Its one timer follows what was set when it fires: that costs far less than a timer a request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._deadline = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER

    @property
    def is_running(self) -> bool:
        return self._deadline != NEVER

    def pause(self) -> None:
        """Let it not end, until it is set again. The timer stays."""
        self._deadline = NEVER

    def start(self, seconds: float) -> None:
        """Let it end after so long, whatever was set before."""
        self._deadline = self._loop.time() + seconds
        if self._deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._deadline
            self._timer = self._loop.call_later(seconds, self._on_timer)

    def cancel(self) -> None:
        """Let it never end."""
        self.pause()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = NEVER

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if not self.is_running:
            return
        left = self._deadline - self._loop.time()
        if left <= _TIMER_RESOLUTION:
            self._callback()
        else:
            self.start(left)
