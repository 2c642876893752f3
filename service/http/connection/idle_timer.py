"""A timer that is restarted for each request and rarely fires."""

import asyncio
from collections.abc import Callable

NEVER = float("inf")
_TIMER_RESOLUTION = 0.001
"""Seconds by which a timer of the event loop may fire early."""


class IdleTimer:
    """Calls `callback` when the time since the last `start` has elapsed.

    It keeps one timer of the event loop and checks the deadline when that fires, which costs far
    less than a new timer for each request.
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
        """Stop the countdown until the next `start`; the event loop's timer is kept."""
        self._deadline = NEVER

    def start(self, seconds: float) -> None:
        """Restart the countdown."""
        self._deadline = self._loop.time() + seconds
        if self._deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._deadline
            self._timer = self._loop.call_later(seconds, self._on_timer)

    def cancel(self) -> None:
        """Stop the countdown and cancel the event loop's timer."""
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
