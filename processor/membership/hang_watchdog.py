"""Hang watchdog: ends a process whose event loop does not run, or that does not come to its stop.

Everything else that watches a worker runs on its event loop. This is a thread, which counts the
time in steps: a process that gets no CPU time (it is stopped, or its machine is) has none to count.
Where C code keeps the thread from running, the CPU time of the process is the limit instead.
"""

import asyncio
import faulthandler
import os
import signal
import threading
import time

LIMIT = 60.0
"""Seconds that the event loop may stand still, or that a stop may take."""
STEPS = 60
"""Steps that the limit is counted in; one counts as two at most."""


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
    """Put the end off for ever. It comes when this is cancelled: a stop must end, too."""
    watch = _Watch()
    while True:
        watch.beat()
        await asyncio.sleep(LIMIT / 10)
