"""Child processes that end with this process, and stop within a time limit."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PARENT_DEATH_SIGNAL = Path(__file__).with_name("parent_death_signal.py")
POLL = 0.02
"""Seconds between two polls of a process."""

Process = subprocess.Popen[bytes]


def start(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    output: IO[bytes] | int,
    folder: Path | None = None,
) -> Process:
    """Start `command` in its own process group, so that Ctrl-C reaches only this process.

    On Linux it is killed when the calling *thread* ends: call this from the main thread.
    """
    prefix: list[str | Path] = []
    if sys.platform == "linux":
        prefix = [sys.executable, "-I", "-S", PARENT_DEATH_SIGNAL, str(os.getpid())]
    return subprocess.Popen(
        [*prefix, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd=folder,
        process_group=0,
    )


def send(process: Process, number: int) -> None:
    """Send a signal to the process group, unless the process has ended."""
    if process.poll() is None:
        os.killpg(process.pid, number)


async def ended(process: Process) -> int:
    """Wait for the end; return the exit code, negative for a signal."""
    while (code := process.poll()) is None:  # noqa: ASYNC110 (Popen has no event)
        await asyncio.sleep(POLL)
    return code


async def stop(process: Process, patience: float) -> int:
    """Send SIGTERM, and SIGKILL after `patience` seconds; return the exit code."""
    send(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(patience):
            return await ended(process)
    except TimeoutError:
        send(process, signal.SIGKILL)
        return await ended(process)


def describe_exit(code: int) -> str:
    """`exit code 3` or `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def end_stale(pid_file: Path, proof: str) -> None:
    """Kill the process in `pid_file` if `proof` is in its command line; delete the file.

    For systems without a parent death signal, on which a killed supervisor leaves processes. The
    proof is needed because the number may belong to another process by now.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return
    if proof in command_line(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while proof in command_line(pid) and time.monotonic() < deadline:
            time.sleep(POLL)
    pid_file.unlink(missing_ok=True)


def command_line(pid: int) -> str:
    """The command line of a process; empty if there is none."""
    if sys.platform == "linux":
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return b" ".join(words).decode(errors="replace").strip()
    listing = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip()
