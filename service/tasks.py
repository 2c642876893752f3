"""Tasks that a service cannot live without."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, NoReturn

import structlog

log = structlog.get_logger(__name__)

EXIT_BROKEN = 70
"""Exit status (EX_SOFTWARE) after which a supervisor should start the process again."""


def die(what: str, /, **details: Any) -> NoReturn:
    """End the process at once: what is half done is neither acknowledged nor finished."""
    log.critical(what, **details)
    os._exit(EXIT_BROKEN)


def vital(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run a coroutine for the life of the process; if it ends by itself, so does the process."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        die("a vital task ended", task=name, reason=repr(error), exc_info=error)

    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(ended)
    return task


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
