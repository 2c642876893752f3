"""Waits between attempts, and a stop by signal that ends them."""

import asyncio
import random
import signal
import time

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 15.0
"""Seconds before the second attempt, and before any later one."""


def backoff(attempts: int, retry_after: float) -> float:
    """Seconds to wait after `attempts` failed attempts; at least `retry_after`."""
    longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (attempts - 1))
    return max(retry_after, longest * random.uniform(0.5, 1.0)) + random.uniform(0.0, 0.2)


async def stopped_before(stop: asyncio.Event, when: float) -> bool:
    """Wait until `when`, on the monotonic clock; return whether `stop` was set before."""
    try:
        async with asyncio.timeout(when - time.monotonic()):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first SIGINT or SIGTERM; the second one ends the process."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stopped() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, stopped)
