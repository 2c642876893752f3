"""Hang watchdog: ends a process whose event loop does not run, or that does not come to its stop.

Everything else that watches a worker runs on its event loop. This one is a thread of C code: it
writes the stacks of all threads to the error output and ends the process with status 1.
"""

import asyncio
import faulthandler

LIMIT = 60.0
"""Seconds that the event loop may stand still, or that a stop may take."""


async def run() -> None:
    """Put the end off for ever. It stays set when this is cancelled: a stop must end, too."""
    while True:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        await asyncio.sleep(LIMIT / 10)
