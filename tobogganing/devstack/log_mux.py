"""The log lines of all parts: in a file for each part, and warnings on one terminal."""

import contextlib
import logging.handlers
import queue
import threading
import time
from pathlib import Path
from typing import IO

from tobogganing.devstack.terminal_lines import TerminalLines

WAITING = 10_000
"""Lines kept for a blocked terminal; further ones are only in the files."""
CHECK_REPEATED = 1.0
"""Seconds between two checks for repeated warnings."""
LONGEST_LINE = 1 << 16
FILE_BYTES = 5_000_000
OLD_FILES = 2


class _LogFile(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Drop a line on a full disk; warnings are also on the terminal."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class LogMux:
    """Writes lines without waiting for the terminal, which may be blocked or closed.

    Raises:
        OSError: the folder `logs` cannot be created.
    """

    def __init__(self, terminal: IO[bytes], logs: Path) -> None:
        self._terminal = terminal
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._selection = TerminalLines()
        self._selecting = threading.Lock()
        self._pumps: list[threading.Thread] = []
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def write_line(self, line: str, *, name: str = "run") -> None:
        """Write one line of the part `name`."""
        self._put(f"{name:<9} | {line}\n".encode())

    def write_text(self, text: str) -> None:
        """Write text without a prefix."""
        self._put(text.encode())

    def attach(self, name: str, pipe: IO[bytes]) -> None:
        """Write every line from `pipe` to the part's file, and warnings to the terminal."""
        pump = threading.Thread(target=self._pump, args=(name, pipe), daemon=True)
        self._pumps.append(pump)
        pump.start()

    def close(self, patience: float = 1.0) -> None:
        """Write the remaining lines, for at most about `patience` seconds."""
        for pump in self._pumps:
            pump.join(patience / len(self._pumps))
        self._write_repeated(all=True)
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=patience)
        self._writer.join(patience)

    def _put(self, line: bytes) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def _write(self) -> None:
        is_open = True
        checked_at = time.monotonic()
        while True:
            if time.monotonic() > checked_at + CHECK_REPEATED:
                self._write_repeated()
                checked_at = time.monotonic()
            try:
                line = self._lines.get(timeout=CHECK_REPEATED)
            except queue.Empty:
                continue
            if line is None:
                return
            if not is_open:
                continue
            try:
                self._terminal.write(line)
                self._terminal.flush()
            except (OSError, ValueError):
                is_open = False

    def _pump(self, name: str, pipe: IO[bytes]) -> None:
        file = _LogFile(
            self._logs / f"{name}.log",
            maxBytes=FILE_BYTES,
            backupCount=OLD_FILES,
            encoding="utf-8",
            delay=True,  # opened with the first line, where errors are handled
        )
        with contextlib.closing(file), pipe:
            while line := pipe.readline(LONGEST_LINE):
                text = line.decode(errors="replace").rstrip("\n")
                file.emit(logging.makeLogRecord({"msg": text}))
                with self._selecting:
                    shown = self._selection.shown(name, text)
                if shown is not None:
                    self.write_line(shown, name=name)

    def _write_repeated(self, *, all: bool = False) -> None:
        with self._selecting:
            repeated = self._selection.repeated(all=all)
        for name, line in repeated:
            self.write_line(line, name=name)
