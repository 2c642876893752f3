"""Processes that are measured: on which core they run, what they used, and their end.

Linux only: cores and CPU times are those that its kernel counts.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.errors import WrongResultError
from tobogganing.devstack import process

POLL = 0.05
PATIENCE = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cores() -> tuple[int, int]:
    """The core for servers and the one for their load; the same where there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[-1]


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this process on one core for the block, and for ever what the block starts."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process that is its own: resident, without mapped files."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE


def descriptors(pid: int) -> int:
    """Files and connections that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@dataclass(frozen=True)
class Used:
    """What some processes used in a time; `cpu` by their names, in seconds like `seconds`."""

    seconds: float
    cpu: dict[str, float]


class Meter:
    """Measures processes from its making to `read`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._cpu = self._read_cpu()
        self._began = time.perf_counter()

    def read(self) -> Used:
        seconds = time.perf_counter() - self._began
        cpu = self._read_cpu()
        return Used(seconds, {name: cpu[name] - before for name, before in self._cpu.items()})

    def _read_cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    log: Path,
    ready: str,
    core: int | None,
) -> AsyncIterator[int]:
    """Run a server until the context ends; yields its pid once the URL `ready` is answered 200.

    Raises:
        WrongResultError: it ended before its time, or was not ready in time.
    """
    with log.open("wb") as output, pinned(core):
        server = process.start(command, environ=environ, output=output, folder=log.parent)
    try:
        await _until_ready(server, ready, log)
        yield server.pid
        if server.poll() is not None:
            raise WrongResultError(f"{command[0]} ended: {_end_of(log)}")
    except Exception as error:
        error.add_note(f"{log.name} ends with: {_end_of(log)}")
        raise
    finally:
        await process.stop(server, 10)


async def _until_ready(server: process.Process, url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise WrongResultError(f"{log.name}: it ended with {server.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(url)).status_code == 200:
                    return
            await asyncio.sleep(POLL)
    raise WrongResultError(f"{url} did not answer 200 in {PATIENCE:g} s")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
