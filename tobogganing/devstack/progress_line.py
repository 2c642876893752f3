"""One line that shows that a long step continues.

Standard library only: `make run` starts with it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

STOPPED = "Stopped before the start was complete."
REDRAW, LINES = 0.2, 5.0
"""Seconds between two updates: on a terminal, in place; elsewhere, each a line."""


class ProgressLine:
    """A context manager that writes `label: status()` to stderr until its end."""

    def __init__(self, label: str, status: Callable[[], str] = lambda: "") -> None:
        self._label, self._status = label, status
        self._is_terminal = sys.stderr.isatty()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._write(self._label)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        end = "done" if error is None else "failed"
        if isinstance(error, KeyboardInterrupt):
            end = "stopped"
        self._write(f"{self._label}: {end} after {self._seconds():.0f} s", last=True)

    def _run(self) -> None:
        while not self._ended.wait(REDRAW if self._is_terminal else LINES):
            parts = [self._status(), f"{self._seconds():.0f} s"]
            self._write(f"{self._label}: {', '.join(filter(None, parts))}")

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _write(self, text: str, *, last: bool = False) -> None:
        if self._is_terminal:
            text = f"\r\x1b[K{text}" + ("\n" if last else "")
        else:
            text += "\n"
        sys.stderr.write(text)
        sys.stderr.flush()


def main() -> int:
    """Run a command: `python -m tobogganing.devstack.progress_line LABEL COMMAND…`."""
    label, *command = sys.argv[1:]
    try:
        with ProgressLine(label):
            run_alone(command)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    return 0


def run_alone(command: list[str]) -> None:
    """Run a command that Ctrl-C does not reach; kill it and its children instead.

    Raises:
        CalledProcessError: it failed.
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0) as process:
        try:
            code = process.wait()
        except BaseException:  # the command does not get the Ctrl-C that ends this process
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)


if __name__ == "__main__":
    sys.exit(main())
