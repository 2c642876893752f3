"""Logs the stacks of all threads and tasks of a hanging process."""

import asyncio
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import structlog

log = structlog.get_logger(__name__)


def log_stacks(loops: Iterable[asyncio.AbstractEventLoop]) -> None:
    """Log the stack of each thread, and of each task of these event loops."""
    for name, stack in thread_stacks():
        log.error("stack of a thread", thread=name, stack=stack)
    for loop in loops:
        for task in _tasks(loop):
            log.error("stack of a task", task=task.get_name(), stack=task_stack(task))


def thread_stacks() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and stack of each thread, outermost call first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, innermost in sys._current_frames().items():
        stack = []
        frame: FrameType | None = innermost
        while frame is not None:
            stack.append(_location(frame))
            frame = frame.f_back
        yield names.get(ident, str(ident)), stack[::-1]


def task_stack(task: asyncio.Task[Any]) -> list[str]:
    """Return the stack of a waiting task, outermost call first, ending with what it waits for.

    `Task.get_stack` returns only the outermost frame of a waiting task.
    """
    stack = []
    awaitable: Any = task.get_coro()
    while awaitable is not None:
        frame = _first(awaitable, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            stack.append(repr(awaitable))
            break
        stack.append(_location(frame))
        awaitable = _first(awaitable, "cr_await", "gi_yieldfrom", "ag_await")
    return stack


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    try:
        return list(asyncio.all_tasks(loop))
    except RuntimeError:  # the set of tasks changed too often in another thread
        return []


def _first(awaitable: object, *names: str) -> Any:
    return next((found for n in names if (found := getattr(awaitable, n, None)) is not None), None)


def _location(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
