"""Supervised processes of the installation, each restarted as a supervisor would."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from tobogganing.devstack import process
from tobogganing.devstack.process import Process, describe_exit
from tobogganing.devstack.supervisor import RestartBackoff
from tobogganing.errors import LocalError

PATIENCE = 30.0
"""Seconds that a normal stop may take."""


class Exit(NamedTuple):
    """An end that no fault has caused."""

    member: str
    how: str


class SupervisedProcess:
    """A process that is kept running except while a fault keeps it down."""

    def __init__(
        self,
        name: str,
        launch: Callable[[], Process],
        ended: Callable[[int], None] = lambda _: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.starts = 0
        """Number of the running process; it changes with every start."""
        self.exits: list[Exit] = []
        self.launch = launch
        self.lock = asyncio.Lock()
        """Locked by a fault while it uses this process."""
        self._ended = ended
        self._tell = tell
        self._process: Process | None = None
        self._wanted = asyncio.Event()
        self._is_down = asyncio.Event()
        self._is_down.set()
        self._expected = False
        self._frozen = False
        self._backoff = RestartBackoff()

    @property
    def is_wanted(self) -> bool:
        """False while a fault keeps it down or frozen."""
        return self._wanted.is_set() and not self._frozen

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    async def keep(self) -> None:
        """Keep it running until cancelled; then kill it."""
        try:
            while True:
                await self._wanted.wait()
                started = time.monotonic()
                how = await self._live()
                if self._expected:
                    self._expected = False
                else:
                    self.exits.append(Exit(self.name, how))
                    await asyncio.sleep(self._backoff.delay(time.monotonic() - started))
        finally:
            if self._process is not None:
                process.send(self._process, signal.SIGKILL)
                self._ended(await process.ended(self._process))

    async def _live(self) -> str:
        """Start it and wait for its end; return how it ended."""
        try:
            self._process = self.launch()
        except (OSError, LocalError) as error:
            return f"it could not be started: {error}"
        self.starts += 1
        self._tell(f"{self.name} is started")
        self._is_down.clear()
        code = await process.ended(self._process)
        self._process = None
        self._ended(code)
        self._is_down.set()
        self._tell(f"{self.name} ended: {describe_exit(code)}")
        return describe_exit(code)

    def forgive(self) -> None:
        """Restart it at once after its next end, regardless of the number of ends."""
        self._backoff = RestartBackoff()

    def freeze(self) -> None:
        self._frozen = True
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._frozen = False
        if self._process is not None:
            self.send(signal.SIGCONT)

    def up(self) -> None:
        """Start it, and restart it whenever it ends."""
        self._wanted.set()

    def send(self, how: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        self._tell(f"{self.name} gets {how.name}")
        process.send(self._process, how)

    async def down(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop it and keep it down.

        Raises:
            TimeoutError: it did not stop in time.
        """
        self._wanted.clear()
        if self._process is None:
            return
        self._expected = True
        self.send(how)
        async with asyncio.timeout(PATIENCE):
            await self._is_down.wait()

    async def restart(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop it; it is restarted at once."""
        await self.down(how)
        self.up()


@contextlib.asynccontextmanager
async def holding(*members: SupervisedProcess) -> AsyncIterator[None]:
    """Wait until no other fault uses these processes, and lock them during the context."""
    async with contextlib.AsyncExitStack() as stack:
        # a fixed order prevents deadlocks
        for member in sorted(set(members), key=lambda member: member.name):
            await stack.enter_async_context(member.lock)
        yield
