"""Hang watchdog: ends a process whose event loop is blocked, or whose stop takes too long.

All other checks run on the event loop; this one runs in a thread. It measures time in short steps,
so that it does not count time in which the process was not scheduled (the process or the machine
was stopped). If C code blocks the thread as well, the limit applies to the CPU time of the process.
"""

import asyncio
import faulthandler
import os
import signal
import threading
import time

LIMIT = 60.0
"""Seconds that the event loop may be blocked, or that a stop may take."""
STEPS = 60
"""Number of steps in the limit; a step counts at most twice its length."""


class _Watch:
    def __init__(self) -> None:
        self._waited = 0.0
        faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
        threading.Thread(target=self._count, name="hang watchdog", daemon=True).start()

    def beat(self) -> None:
        self._waited = 0.0

    def _count(self) -> None:
        step = LIMIT / STEPS
        while self._waited <= LIMIT:
            signal.setitimer(signal.ITIMER_PROF, LIMIT)
            before = time.monotonic()
            time.sleep(step)
            self._waited += min(time.monotonic() - before, 2 * step)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(1)


async def run() -> None:
    """Reset the watchdog periodically until cancelled; a stop then has the same limit."""
    watch = _Watch()
    while True:
        watch.beat()
        await asyncio.sleep(LIMIT / 10)
