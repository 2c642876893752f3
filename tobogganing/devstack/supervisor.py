"""Restarts parts that end, and stops all of them in order."""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tobogganing.devstack import process
from tobogganing.devstack.process import Process, describe_exit
from tobogganing.errors import LocalError

PATIENCE = 8.5
"""Seconds for the whole stop; what still runs then is killed."""
RESERVE = 1.0
"""Seconds of PATIENCE that are reserved for each part that is stopped later."""


@dataclass(frozen=True)
class SupervisedPart:
    """One process; `ended` is called with the exit code after each end."""

    name: str
    launch: Callable[[], Process]
    ended: Callable[[int], None] = lambda code: None


class RestartBackoff:
    """The wait before a restart: at first none, then 1 to 5 seconds."""

    LONGEST = 5.0
    STABLE = 30.0
    """Seconds after which a part counts as stable."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, lived: float) -> float:
        """Seconds to wait after a part that ran for `lived` seconds."""
        if lived >= self.STABLE:
            self._next = 0.0
        delay = self._next
        self._next = min(self._next + 1.0, self.LONGEST)
        return delay


@dataclass
class _Running:
    part: SupervisedPart
    process: Process | None
    watch: asyncio.Task[None] | None = None
    started: float = field(default_factory=time.monotonic)


class Supervisor:
    def __init__(self, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line
        self._running: list[_Running] = []

    def start(self, part: SupervisedPart, running: Process | None = None) -> None:
        """Launch `part`, unless it is `running`, and restart it until `stop`."""
        entry = _Running(part, running or part.launch())
        entry.watch = asyncio.create_task(self._keep(entry), name=f"keep {part.name}")
        self._running.append(entry)

    async def stop(self, patience: float = PATIENCE) -> None:
        """Stop all parts in reverse order, within about `patience` seconds."""
        deadline = time.monotonic() + patience
        watches = [entry.watch for entry in self._running if entry.watch]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        while self._running:
            entry = self._running[-1]
            if entry.process is not None:
                left = deadline - time.monotonic() - RESERVE * (len(self._running) - 1)
                code = await process.stop(entry.process, max(left, 0.1))
                entry.part.ended(code)
                if code == -signal.SIGKILL:
                    self._write_line(f"{entry.part.name} did not stop in time: killed")
            self._running.pop()

    def kill(self) -> None:
        """Kill all parts."""
        for entry in self._running:
            if entry.process is not None:
                process.send(entry.process, signal.SIGKILL)

    async def _keep(self, entry: _Running) -> None:
        part, backoff = entry.part, RestartBackoff()
        while True:
            if entry.process is not None:
                code = await process.ended(entry.process)
                entry.process = None
                part.ended(code)
                why = describe_exit(code)
            delay = backoff.delay(time.monotonic() - entry.started)
            again = f"in {delay:g} s" if delay else "now"
            self._write_line(f"{part.name} died ({why}): starting it again {again}")
            await asyncio.sleep(delay)
            entry.started = time.monotonic()
            try:
                entry.process = part.launch()
            except (OSError, LocalError) as error:
                why = str(error)
