"""Runs a real gateway, a healthy fleet, and one attack after the other."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import WrongResultError
from bench.gateway import MeasuredGateway, gateway
from bench.pipeline import pipeline
from bench.processes import descriptors, resident_bytes
from bench.rounds import percentile
from bench.workloads import SingleWorkload, request_heads
from tests.hostile.attacks import ATTACKS, Victim
from tests.hostile.callbacks import VARIABLE, CallbackFile, Slowest
from tests.hostile.healthy import RATE, Healthy
from tobogganing.devstack.run_config import CHECKOUT

MAX_GROWTH = 256 * 2**20
"""Bytes that a gateway may grow by under one attack."""
MAX_IN_ALL = 400 * 2**20
"""Bytes that it may grow by in total, since freed memory is not always returned. Its total then
stays below 512 MiB, the smallest limit in deploy/."""
MAX_CALLBACK = 0.05
"""Seconds of CPU time that one callback of the event loop may use, as all others wait."""
STARTUP = CHECKOUT / "tests/hostile/startup"
PARTITIONS = 4
CLIENTS = 100
LOOK = 0.1
"""Seconds between memory measurements."""
PATIENCE = 120.0
KEEP_ALIVE = 5
"""Seconds for which the gateway keeps an idle connection in this test."""
GONE_WITHIN = KEEP_ALIVE + 10.0
"""Seconds after an attack in which all its connections must be closed."""
SPARE = 20
"""Number of open files by which a gateway may exceed the number before an attack."""

HEAD = (
    "attack",
    "connections",
    "ended",
    "answers",
    "memory",
    "in all",
    "callback",
    "healthy",
    "p50",
    "p99",
    "slowest",
)


@dataclass
class AttackLine:
    """The result of an attack; memory in bytes, times in seconds."""

    attack: str
    connections: int
    ended: int
    statuses: dict[str, int]
    grown: int
    in_all: int
    """Growth of the gateway since before the first attack."""
    slowest: Slowest
    """The callback of the gateway's event loop that used the most CPU time."""
    seconds: list[float]

    @property
    def faults(self) -> list[str]:
        """Return the limits that were exceeded."""
        bounds = (
            (f"grew by {self.grown / 1e6:.0f} MB", self.grown <= MAX_GROWTH),
            (f"grew by {self.in_all / 1e6:.0f} MB in all", self.in_all <= MAX_IN_ALL),
            (
                f"a callback used {self.slowest.seconds * 1e3:.0f} ms of CPU ({self.slowest.name})",
                self.slowest.seconds <= MAX_CALLBACK,
            ),
        )
        return [fault for fault, holds in bounds if not holds]

    def row(self) -> tuple[str, ...]:
        answers = ", ".join(f"{count:,} x {status}" for status, count in self.statuses.items())
        ordered = sorted(self.seconds)
        times = [percentile(ordered, share) for share in (0.5, 0.99, 1.0)]
        return (
            self.attack,
            f"{self.connections:,}",
            f"{self.ended:,}",
            answers or "-",
            f"+{self.grown / 1e6:.0f} MB",
            f"+{self.in_all / 1e6:.0f} MB",
            f"{self.slowest.seconds * 1e3:.0f} ms",
            f"{len(ordered):,} x 200",
            *(f"{each * 1e3:.0f} ms" for each in times),
        )


class AttackRunner:
    """Attacks one gateway for `seconds` each."""

    def __init__(
        self,
        running: MeasuredGateway,
        callbacks: CallbackFile,
        seconds: float,
        tell: Callable[[str], None],
    ) -> None:
        self._running = running
        self._callbacks = callbacks
        self._seconds = seconds
        self._tell = tell
        clients = running.clients
        self._heads = request_heads(clients)
        self._victim = Victim(
            running.service.port, clients.path(0), clients.credential(0), running.relay_key
        )
        (self._pid,) = running.service.pids.values()
        self._memory = resident_bytes(self._pid)
        self._open = descriptors(self._pid)

    async def run(self, names: Sequence[str]) -> list[AttackLine]:
        """Run the named attacks, with a run without attack before and after them.

        Raises:
            WrongResultError: a healthy agent was not served, or an acknowledged submission is
            missing.
        """
        lines = [await self._without_attack("nobody")]
        for name in names:
            lines.append(await self._under(name))
            self._tell(" ".join((*lines[-1].row(), lines[-1].slowest.name)))
        lines.append(await self._without_attack("nobody any more"))
        return lines

    async def _without_attack(self, name: str) -> AttackLine:
        self._callbacks.reset()
        healthy, grown, in_all = await self._watch(resident_bytes(self._pid))
        return AttackLine(name, 0, 0, {}, grown, in_all, self._callbacks.read(), healthy.seconds)

    async def _under(self, name: str) -> AttackLine:
        before = resident_bytes(self._pid)
        self._callbacks.reset()
        attacker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.hostile.attacker", name, json.dumps(self._victim)),
            cwd=CHECKOUT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                begun = await attacker.stdout.readline()
            if begun != b"begun\n":
                raise WrongResultError(f"{name} could not start: {begun!r}")
            healthy, grown, in_all = await self._watch(before)
            attacker.stdin.close()
            async with asyncio.timeout(PATIENCE):
                seen = json.loads(await attacker.stdout.read())
        except WrongResultError as error:
            error.add_note(f"under {name}")
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                attacker.kill()
            await attacker.wait()
        await self._wait_until_closed(name)
        return AttackLine(
            name,
            ATTACKS[name].connections,
            seen["ended"],
            seen["statuses"],
            grown,
            in_all,
            self._callbacks.read(),
            healthy.seconds,
        )

    async def _wait_until_closed(self, name: str) -> None:
        """Wait until all connections of the attack are closed."""
        try:
            async with asyncio.timeout(GONE_WITHIN):
                while descriptors(self._pid) > self._open + SPARE:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            left = descriptors(self._pid) - self._open
            raise WrongResultError(f"{left} files are still open after {name}") from None

    async def _watch(self, before: int) -> tuple[Healthy, int, int]:
        """Let the healthy fleet submit; return the gateway's maximum growth over `before` and in
        total."""
        running = self._running
        work = SingleWorkload(
            running.acknowledged, running.clients, round(self._seconds * RATE), self._heads
        )
        healthy = Healthy(running.service.port, work)
        submitting = asyncio.create_task(healthy.run(self._seconds))
        peak = 0
        try:
            while not submitting.done():
                peak = max(peak, resident_bytes(self._pid))
                await asyncio.wait([submitting], timeout=LOOK)
            await submitting
        finally:
            submitting.cancel()
            healthy.close()
        return healthy, max(0, peak - before), max(0, peak - self._memory)


@contextlib.asynccontextmanager
async def attacked(folder: Path) -> AsyncIterator[tuple[MeasuredGateway, CallbackFile]]:
    """Run a broker, and a gateway whose callbacks are measured."""
    file = folder / "callbacks"
    callbacks = CallbackFile(file)
    environ = {
        VARIABLE: str(file),
        "PYTHONPATH": f"{STARTUP}{os.pathsep}{CHECKOUT}",
        "KEEP_ALIVE_SECONDS": str(KEEP_ALIVE),
    }
    async with (
        pipeline(folder) as parts,
        gateway(parts, PARTITIONS, CLIENTS, headends=0, **environ) as running,
    ):
        yield running, callbacks
