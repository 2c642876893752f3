"""Processes under measurement: cores, CPU time, memory, start and end. Linux only."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from bench.errors import WrongResultError
from tobogganing.devstack import process

POLL = 0.05
PATIENCE = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cores() -> tuple[int, int]:
    """The core for the servers and the one for their load; the same if there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[-1]


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this process on one core for the block; processes started in it stay there."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """User and system CPU time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process without mapped files."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE


def descriptors(pid: int) -> int:
    """Open files and connections of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class Meter:
    """Measures processes from its construction to `read`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self._began = time.perf_counter()

    def read(self) -> tuple[float, dict[str, float]]:
        """Elapsed seconds, and CPU seconds by process name."""
        seconds = time.perf_counter() - self._began
        used = {name: cpu_seconds(pid) - self._cpu[name] for name, pid in self._pids.items()}
        return seconds, used


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    log: Path,
    ready: str,
    core: int | None,
) -> AsyncIterator[int]:
    """Run a server until the context ends; yields its pid when the URL `ready` responds 200.

    The block may end the server with SIGKILL.

    Raises:
        WrongResultError: the server ended by itself, or was not ready in time.
    """
    with log.open("ab") as output, pinned(core):
        server = process.start(command, environ=environ, output=output, folder=log.parent)
    try:
        await _until_ready(server, ready, log)
        yield server.pid
        if server.poll() not in (None, -signal.SIGKILL):
            raise WrongResultError(f"{command[0]} ended with {server.returncode}")
    except Exception as error:  # whatever failed, the log may say why
        error.add_note(f"{log.name} ends with: {_end_of(log)}")
        raise
    finally:
        await process.stop(server, 10)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


async def _until_ready(server: process.Process, url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise WrongResultError(f"{log.name}: the server ended with {server.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(url)).status_code == 200:
                    return
            await asyncio.sleep(POLL)
    raise WrongResultError(f"{url} did not respond 200 within {PATIENCE:g} s")
