"""Several worker processes of one service that accept on one port, and their supervisor.

The parent opens the port and passes it to each worker, so a connection in the backlog survives the
death of a worker: another worker accepts it. The parent serves no requests.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client.multiprocess import mark_process_dead

from service.config.settings import HttpSettings, SettingsError
from service.http.server import EXIT_INTERRUPTED, listen
from service.metrics.multiprocess import FOLDER_VARIABLE
from service.tasks import EXIT_MISCONFIGURED

log = structlog.get_logger(__name__)

STABLE_AFTER = 10.0
"""Uptime in seconds after which a worker that exits is restarted without delay."""
ATTEMPTS = 5
"""Consecutive starts of a worker that ended within STABLE_AFTER seconds before the parent exits."""
MAX_RESTART_DELAY = 5.0
"""Maximum delay in seconds before a worker that exits repeatedly is restarted."""
KILL_AFTER = 5.0
"""Seconds beyond the grace period after which a worker that does not stop is killed."""


class WorkerFds(NamedTuple):
    """File descriptors that a worker inherits: the port, and a pipe that closes with the parent."""

    port: int
    parent_pipe: int

    @classmethod
    def from_arguments(cls) -> "WorkerFds | None":
        """Parse the command line of this process; return None if it is not a worker."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--worker", nargs=2, type=int, metavar=("PORT", "PARENT_PIPE"))
        numbers = parser.parse_args().worker
        return None if numbers is None else cls(*numbers)

    def listen(self) -> socket.socket:
        """Open the port, and stop this process when the parent exits."""
        threading.Thread(target=self._follow_parent, daemon=True).start()
        return socket.socket(fileno=self.port)

    def _follow_parent(self) -> None:
        os.read(self.parent_pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)


class PreforkSupervisor:
    """Keeps `number` workers running: `python -m <module> --worker …`."""

    def __init__(self, module: str, number: int, settings: HttpSettings, grace: float) -> None:
        self._module = module
        self._number = number
        self._settings = settings
        self._grace = grace
        self._stop = asyncio.Event()
        self._status = 0
        self._proven = False
        """Whether any worker has run for STABLE_AFTER seconds, so that restarts may help."""
        self._processes: set[asyncio.subprocess.Process] = set()

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status.

        Raises:
            SettingsError: the port cannot be opened.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        parent_pipe, write_end = os.pipe()
        with listen(self._settings) as port, _metrics_folder() as folder:
            fds = WorkerFds(port.fileno(), parent_pipe)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._number):
                    tasks.create_task(self._supervise(fds, folder))
                await self._stop.wait()
                port.close()  # the port closes when the last worker closes it
        os.close(parent_pipe)
        os.close(write_end)
        return self._status

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set() and number == signal.SIGINT:
            for process in self._processes:  # second Ctrl-C
                process.kill()
            self._status = EXIT_INTERRUPTED
        self._stop.set()

    async def _supervise(self, fds: WorkerFds, folder: Path) -> None:
        pause = 0.0
        attempts = 0
        while not self._stop.is_set():
            began = time.monotonic()
            process = await self._start(fds, folder)
            self._processes.add(process)
            await self._wait_for_exit(process)
            self._processes.discard(process)
            mark_process_dead(process.pid, str(folder))  # type: ignore[no-untyped-call]
            if self._stop.is_set():
                return
            if process.returncode == EXIT_MISCONFIGURED:
                self._status = EXIT_MISCONFIGURED
                self._stop.set()
                return
            log.error("worker exited", pid=process.pid, status=process.returncode)
            stable = time.monotonic() - began > STABLE_AFTER
            self._proven |= stable
            attempts = 0 if stable else attempts + 1
            if attempts == ATTEMPTS and not self._proven:
                self._give_up(process.returncode)
                return
            pause = 0.0 if stable else min(MAX_RESTART_DELAY, 2 * pause + 0.1)
            await self._wait_for_stop(pause)

    def _give_up(self, status: int | None) -> None:
        log.critical(
            "cannot start",
            reason=f"--workers {self._number}: each of {ATTEMPTS} starts of a worker ended within "
            f"{STABLE_AFTER:g} s, the last with status {status}: see the log lines above",
        )
        self._status = EXIT_MISCONFIGURED
        self._stop.set()

    async def _start(self, fds: WorkerFds, folder: Path) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", self._module, "--worker", *map(str, fds))
        return await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | {FOLDER_VARIABLE: str(folder)},
            pass_fds=fds,
            start_new_session=True,  # so that only the parent receives Ctrl-C
        )

    async def _wait_for_exit(self, process: asyncio.subprocess.Process) -> None:
        """Wait until a worker has exited; terminate it when the supervisor stops."""
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            process.terminate()
            await asyncio.wait((ended,), timeout=self._grace + KILL_AFTER)
        if not ended.done():
            log.error("worker did not stop and was killed", pid=process.pid)
            process.kill()
        await ended

    async def _wait_for_stop(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stop.wait()
        except TimeoutError:
            return False


@contextmanager
def _metrics_folder() -> Iterator[Path]:
    """Yield an empty folder for the workers' metrics; remove its files at the end.

    Raises:
        SettingsError: the folder cannot be written.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    try:
        if given:
            folder = Path(given)
            folder.mkdir(parents=True, exist_ok=True)
            _remove_values(folder)
            tempfile.TemporaryFile(dir=folder).close()
        else:
            folder = Path(tempfile.mkdtemp(prefix="tobogganing-metrics-"))
    except OSError as error:
        variable = f"{FOLDER_VARIABLE}={given}" if given else "TMPDIR"
        raise SettingsError(f"{variable} cannot be written: {error.strerror}") from error
    try:
        yield folder
    finally:
        if given:
            _remove_values(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_values(folder: Path) -> None:
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)
