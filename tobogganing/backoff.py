"""Waiting between attempts, in a way that a stop can end."""

import asyncio
import random
import signal
import time

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 15.0
"""Seconds before the first and before any later attempt."""


def backoff(attempts: int, retry_after: float) -> float:
    """Seconds to wait after so many failed attempts: doubling, and never less than was asked."""
    longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (attempts - 1))
    return max(retry_after, longest * random.uniform(0.5, 1.0)) + random.uniform(0.0, 0.2)


async def stopped_before(stop: asyncio.Event, when: float) -> bool:
    """Wait until `when`, on the monotonic clock; tell whether `stop` came first."""
    try:
        async with asyncio.timeout(when - time.monotonic()):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let Ctrl-C and SIGTERM end in order; a second one ends at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stopped() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, stopped)
