"""The example agents as processes, each with a simulated machine, a queue, and a credential."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.deploy import program_log

POLL = 0.02
PATIENCE = 60
INTERVAL = 0.2


class AgentSample(NamedTuple):
    """A measurement and its time, in comparable form."""

    timestamp: float
    metrics: frozenset[tuple[str, float]]


def sample(timestamp: float | None, metrics: Mapping[str, float]) -> AgentSample:
    assert timestamp is not None
    return AgentSample(
        timestamp, frozenset((name, float(value)) for name, value in metrics.items())
    )


class Machine:
    """A folder with the files of a machine that the examples read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sent = 0
        self.go_on()

    def go_on(self) -> None:
        """Add 1000 bytes to those sent; the other values follow from that."""
        self.sent = sent = self.sent + 1000
        statistics = "sys/class/net/wg0/statistics"
        files = {
            f"{statistics}/tx_bytes": f"{sent}\n",
            f"{statistics}/rx_bytes": f"{2 * sent}\n",
            f"{statistics}/tx_packets": "3\n",
            f"{statistics}/rx_packets": "4\n",
            "proc/uptime": "3600.25 7000.00\n",
            "proc/stat": "cpu  40 0 20 40 0 0 0 0 0 0\n",
            "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 400 kB\n",
            "connections": f"{sent // 1000}\n",
        }
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(path.name + ".new")  # every reader finds a complete file
            scratch.write_text(content)
            scratch.replace(path)


class ExampleAgent:
    """An example that runs until it is stopped."""

    def __init__(
        self,
        kind: str,
        id: str,
        command: Sequence[str | Path],
        once: str,
        folder: Path,
        environ: Mapping[str, str],
    ) -> None:
        self.kind, self.id = kind, id
        self.folder = folder
        self.machine = Machine(folder / "machine")
        self._command, self._once = command, once
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "API_KEY_FILE": str(folder / "key"),
            "QUEUE_DIR": str(folder / "queue"),
            "SYSTEM_ROOT": str(self.machine.root),
            "INTERVAL_SECONDS": str(INTERVAL),
            "MAX_PAUSE_SECONDS": "1",
            "CONNECTIONS_COMMAND": f"cat {self.machine.root}/connections",
            f"{kind.upper()}_ID": id,
            **environ,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def key(self) -> str:
        """The entity that it submits for."""
        return f"{self.kind}:{self.id}"

    async def start(self) -> None:
        self._process = await self._run()

    async def kill(self) -> None:
        """Kill it, with all processes that it has started."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop it as a service manager does; a request in progress is completed."""
        assert self._process is not None
        await self._end(signal.SIGTERM)
        assert self._process.returncode == 0, self.log()

    async def once(self) -> int:
        """Measure once and submit all queued samples; return the exit status."""
        self.machine.go_on()
        process = await self._run(*([self._once] if self._once else []))
        async with asyncio.timeout(PATIENCE):
            return await process.wait()

    async def flush(self) -> None:
        """Measure once more, and check that no sample waits."""
        async with asyncio.timeout(PATIENCE):
            while await self.once() != 0:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
        assert not self.waiting()

    def waiting(self) -> set[AgentSample]:
        """The samples on the disk, except those that are removed while they are read."""
        found = set()
        for file in (self.folder / "queue/waiting").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                document = json.loads(file.read_text())
                found.add(sample(document["timestamp"], document["metrics"]))
        return found

    def count(self, name: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return int((self.folder / "queue" / name).read_text() or 0)
        return 0

    async def until_sent(self, more: int) -> None:
        """Wait until this number of further samples was sent."""
        goal = self.count("sent") + more
        await self._until(lambda: self.count("sent") >= goal)

    async def until_waiting(self, least: int) -> None:
        await self._until(lambda: len(self.waiting()) >= least)

    async def until_gone(self, samples: set[AgentSample]) -> None:
        """Wait until none of these samples is on the disk."""
        await self._until(lambda: not self.waiting() & samples)

    def rejected(self) -> list[str]:
        """The rejected samples with their reasons."""
        return [file.read_text() for file in (self.folder / "queue/rejected").iterdir()]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    async def _until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():  # noqa: ASYNC110
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise AssertionError(f"{self.id} did not go on:\n{self.log()}") from None

    async def _run(self, *words: str) -> asyncio.subprocess.Process:
        program_log.note(Path(self._command[-1]).name)
        with (self.folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                *words,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()


class Repeated(ExampleAgent):
    """An example that measures once per run, as with cron, but started at short intervals."""

    _runs: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._going_on = True
        self._runs = asyncio.create_task(self._repeat())

    async def kill(self) -> None:
        self._going_on = False
        await super().kill()
        if self._runs:
            await self._runs

    async def stop(self) -> None:
        self._going_on = False
        assert self._runs
        await self._runs

    async def _repeat(self) -> None:
        while self._going_on:
            self.machine.go_on()  # samples of the same second differ
            self._process = await self._run()
            await self._process.wait()
