"""The pulse: whether Kafka confirms anything, felt for where there is nothing to send.

A cluster may answer every question and confirm nothing, for want of brokers that are in sync. A
gateway that cannot be answered for is not ready; and since nobody sends anything to one that is
not ready, it has to find out by itself that it can be again.
"""

import asyncio
import math
import time
from collections.abc import Callable

PAUSE = 1.0
"""Seconds between two looks."""
ASK_AFTER = 2.0
"""Seconds of silence after which every partition's leader is asked: one that is missing must not
make a gateway silent that could send to all others."""
SILENT_AFTER = 6.0
"""Seconds of silence after which a gateway is not ready."""


class Silence:
    """How long Kafka has confirmed nothing of what was sent. Moments are in seconds.

    Who has sent nothing yet knows nothing: for ever, so that the pulse asks at a start.
    """

    def __init__(self) -> None:
        self._flying = 0
        self._since: float | None = -math.inf

    def sent(self, now: float) -> None:
        """Take note of a record that leaves."""
        self._flying += 1
        if self._since is None:
            self._since = now

    def confirmed(self, now: float) -> None:
        """Take note that one was confirmed."""
        self._flying -= 1
        self._since = now if self._flying else None

    def failed(self, sent: float) -> None:
        """Take note that one was given up, which left at `sent`."""
        self._flying -= 1
        if not self._flying and self._since is not None and self._since > sent:
            self._since = None  # others were confirmed meanwhile

    def seconds(self, now: float | None = None) -> float:
        """Seconds since the first that was sent after the last one that was confirmed."""
        if self._since is None:
            return 0.0
        return (time.monotonic() if now is None else now) - self._since


async def pulse(is_silent: Callable[[], bool], ask: Callable[[], None]) -> None:
    """Let `ask` send something for as long as there is silence. Runs until cancelled."""
    while True:
        if is_silent():
            ask()
        await asyncio.sleep(PAUSE)
