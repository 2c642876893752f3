"""An event loop with virtual time, which advances as soon as the loop is idle."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class _Inline(ThreadPoolExecutor):
    """Runs submitted work at once in the calling thread, as a real thread would need real time."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **options))
        except Exception as error:  # as an executor does, for the future to raise
            done.set_exception(error)
        return done


class _Selector(selectors.SelectSelector):
    """Never waits: reports to the loop how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.waited += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop; `faults` has the exceptions that no caller could catch."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        # Seconds that a timer may be early; two times of a long run do not differ by less.
        self._clock_resolution = 1e-6
        self.faults: list[dict[str, Any]] = []
        self.set_default_executor(_Inline())
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self._virtual.waited

    def pass_time(self, seconds: float) -> None:
        """Run everything that is due within this time."""
        self.run_until_complete(asyncio.sleep(seconds))
