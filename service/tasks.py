"""Runs tasks that a service depends on, and handles their errors."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, NoReturn

import structlog

from service.config.settings import SettingsError

log = structlog.get_logger(__name__)

EXIT_SOFTWARE_ERROR = 70
"""Exit status (EX_SOFTWARE) after which a supervisor should restart the process."""


EXIT_MISCONFIGURED = 2
"""Exit status of a service whose settings are not valid or do not match the topics."""


def abort(message: str, /, **details: Any) -> NoReturn:
    """Exit at once, so that unfinished work is neither acknowledged nor completed."""
    log.critical(message, **details)
    os._exit(EXIT_SOFTWARE_ERROR)


def abort_misconfigured(error: SettingsError, what: str = "cannot start") -> NoReturn:
    """Exit with EXIT_MISCONFIGURED: a restart does not help, the settings must be corrected."""
    log.critical(what, reason=str(error))
    os._exit(EXIT_MISCONFIGURED)


def critical_task(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run a coroutine for the life of the process; exit if it ends by itself."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, SettingsError):
            abort_misconfigured(error)
        abort("a critical task ended", task=name, reason=repr(error), exc_info=error)

    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(ended)
    return task


class TaskEndedError(RuntimeError):
    """A task of run_together returned or was cancelled."""


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> NoReturn:
    """Run tasks that must not end; when the first one ends, cancel the others.

    A TaskGroup treats a task that was cancelled from inside as finished: aiokafka's `stop`, for
    example, raises CancelledError, and the group continues without that task.

    Raises:
        TaskEndedError: the first task returned, or raised CancelledError.
        Exception: the first task raised it; not wrapped in an exception group.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(*tasks)
    for task in done:
        if not task.cancelled():
            task.result()
    raise TaskEndedError(f"tasks have ended: {[task.get_coro() for task in done]}")


def extend(timeout: asyncio.Timeout, seconds: float) -> None:
    """Set a timeout to end this many seconds from now."""
    timeout.reschedule(asyncio.get_running_loop().time() + seconds)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
