"""How far something long is: a bar on a terminal, else a line for each quarter."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30
REDRAW = 0.1
"""Seconds between two drawings of the bar."""


def megabytes(done: int, total: int) -> str:
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"


def counted(done: int, total: int) -> str:
    return f"{done:,} of {total:,}"


class Progress:
    """Counts from any thread; a context, so that the bar's line is always ended."""

    def __init__(
        self,
        label: str,
        total: int,
        stream: TextIO,
        figures: Callable[[int, int], str] = megabytes,
    ) -> None:
        self._label = label
        self._total = max(total, 1)
        self._stream = stream
        self._figures = figures
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._done = 0
        self._drawn_at = 0.0
        self._quarter = 0

    def add(self, count: int) -> None:
        """Count `count` more; negative to take back those of an attempt that failed."""
        with self._lock:
            self._done += count
            if self._is_terminal:
                self._draw(time.monotonic())
            else:
                self._tell()

    def _draw(self, now: float, *, last: bool = False) -> None:
        if now - self._drawn_at < REDRAW and not last:
            return
        self._drawn_at = now
        filled = WIDTH * self._done // self._total
        bar = "#" * filled + "-" * (WIDTH - filled)
        self._stream.write(f"\r{self._label} [{bar}] {self._figures(self._done, self._total)}")
        self._stream.flush()

    def _tell(self) -> None:
        quarter = 4 * self._done // self._total
        if quarter > self._quarter:
            self._quarter = quarter
            self._stream.write(f"{self._label}: {self._figures(self._done, self._total)}\n")
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_terminal:
            with self._lock:
                self._draw(time.monotonic(), last=True)
            self._stream.write("\n")
            self._stream.flush()
