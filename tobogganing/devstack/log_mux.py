"""The lines of all parts, on one terminal with a prefix, and each part's in files of its own."""

import contextlib
import logging.handlers
import queue
import threading
from pathlib import Path
from typing import IO

WAITING = 10_000
"""Lines kept for a terminal that takes none; what comes then is missing there, not in the files."""
LONGEST_LINE = 1 << 16
FILE_BYTES = 5_000_000
OLD_FILES = 2


class _LogFile(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Let a line go that a full disk does not take: it is on the terminal all the same."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class LogMux:
    """A terminal that nothing has to wait for: stopping works even while it is held or gone.

    Raises:
        OSError: the folder `logs` cannot be made.
    """

    def __init__(self, terminal: IO[bytes], logs: Path) -> None:
        self._terminal = terminal
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._pumps: list[threading.Thread] = []
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def write_line(self, line: str, *, name: str = "run") -> None:
        """Show one line of `name`."""
        self._put(f"{name:<9} | {line}\n".encode())

    def write_text(self, text: str) -> None:
        """Show text as it is, without a prefix."""
        self._put(text.encode())

    def attach(self, name: str, pipe: IO[bytes]) -> None:
        """Show and keep every line that comes out of `pipe`, until its end."""
        pump = threading.Thread(target=self._pump, args=(name, pipe), daemon=True)
        self._pumps.append(pump)
        pump.start()

    def close(self, patience: float = 1.0) -> None:
        """Write what is left, for at most about `patience` seconds."""
        for pump in self._pumps:
            pump.join(patience / len(self._pumps))
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=patience)
        self._writer.join(patience)

    def _put(self, line: bytes) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def _write(self) -> None:
        is_there = True
        while (line := self._lines.get()) is not None:
            if not is_there:
                continue
            try:
                self._terminal.write(line)
                self._terminal.flush()
            except (OSError, ValueError):
                is_there = False

    def _pump(self, name: str, pipe: IO[bytes]) -> None:
        file = _LogFile(
            self._logs / f"{name}.log",
            maxBytes=FILE_BYTES,
            backupCount=OLD_FILES,
            encoding="utf-8",
            delay=True,  # until the first line: then errors are handled
        )
        with contextlib.closing(file), pipe:
            while line := pipe.readline(LONGEST_LINE):
                text = line.decode(errors="replace").rstrip("\n")
                file.emit(logging.makeLogRecord({"msg": text}))
                self.write_line(text, name=name)
