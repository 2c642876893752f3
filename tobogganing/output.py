"""Output of commands: JSON, aligned columns, notes and progress.

A terminal gets tables, colours and bars. A table that is wider than the terminal is folded between
words; if that does not suffice, each row is a block of fields. Anything else gets plain text, one
row or field a line.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from tobogganing.errors import LocalError

if TYPE_CHECKING:  # The command line starts without it.
    from rich.console import Console
    from rich.progress import Progress as Bar

GAP = "  "
OFFSETS = ("offset", "logical_offset", "kafka_first", "kafka_end", "from")
"""Fields whose numbers are pasted into commands."""
LEAST_FOLDED = 16
"""Columns of a terminal below which a column is not folded."""


def console(*, stderr: bool = False) -> "Console":
    """A console on stdout or stderr; coloured only on a terminal, and not if NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def write(text: str) -> None:
    """Write lines to stdout.

    Raises:
        LocalError: stdout cannot be written, because of a full disk for example.
        SystemExit: the reader has closed the pipe, as `head` does.
    """
    write_bytes(f"{text}\n".encode(sys.stdout.encoding or "utf-8", "replace"))


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout; raises as `write`."""
    try:
        click.echo(data, nl=False)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(1)
    except OSError as error:
        _discard_stdout()
        raise LocalError(f"stdout cannot be written: {error.strerror}") from None


def _discard_stdout() -> None:
    """Replace stdout, so that the interpreter does not fail to flush it at the exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def write_document(document: Mapping[str, Any], as_json: bool) -> None:
    """Write one result to stdout: as one JSON document, or one field a line."""
    write(json.dumps(document, ensure_ascii=False) if as_json else fields(document))


def write_note(text: str) -> None:
    """Write a remark to stderr."""
    click.echo(text, err=True)


def width(text: str) -> int:
    """Return the width of a text in columns of a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cell(value: Any, name: str = "") -> str:
    """The value of a field as text in one line, without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name not in OFFSETS:
        return f"{value:,}" if abs(value) < 1e15 else str(value)
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))


class ColumnTable:
    """Rows in aligned columns; a column grows with later rows and never shrinks."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._heads = [column.upper() for column in columns]
        self._widths = list(map(width, self._heads))
        self._least = list(map(_folded_width, self._heads))
        self._has_head = False
        self._is_stacked = False

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """The lines of the next rows; the first call adds the column names."""
        cells = self._cells(rows)
        if not self._has_head:
            self._has_head = True
            cells.insert(0, self._heads)
        return [self._line(row) for row in cells]

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the next rows to stdout."""
        if sys.stdout.isatty():
            self._draw(self._cells(rows))
        else:
            write("\n".join(self.lines(rows)))

    def _cells(self, rows: Iterable[Mapping[str, Any]]) -> list[list[str]]:
        cells = [[cell(row.get(column), column) for column in self._columns] for row in rows]
        for row in cells:
            self._widths = [max(w, width(c)) for w, c in zip(self._widths, row, strict=True)]
            self._least = [max(w, _folded_width(c)) for w, c in zip(self._least, row, strict=True)]
        return cells

    def _draw(self, cells: list[list[str]]) -> None:
        screen = console()
        fitted = _fitted(self._widths, self._least, screen.width)
        self._is_stacked = self._is_stacked or fitted is None
        if self._is_stacked:
            if not cells and not self._has_head:
                write(self._line(self._heads))
            for row in cells:
                named = zip(self._columns, row, strict=True)
                write(fields({name: text for name, text in named if text}) + "\n")
            return
        from rich import box
        from rich.table import Table

        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            show_header=not self._has_head,
            padding=(0, len(GAP) - 1, 0, 0),  # The box adds one column.
            pad_edge=False,
        )
        self._has_head = True
        for head, columns in zip(self._heads, fitted or self._widths, strict=True):
            table.add_column(head, width=columns, overflow="fold")
        for row in cells:
            table.add_row(*row)
        screen.print(table)

    def _line(self, row: Sequence[str]) -> str:
        padded = (c + " " * (w - width(c)) for w, c in zip(self._widths, row, strict=True))
        return GAP.join(padded).rstrip()


def _folded_width(text: str) -> int:
    """Return the minimum width of a text, that of its longest word."""
    return max(min(width(text), LEAST_FOLDED), *map(width, text.split(" ")))


def _fitted(widths: Sequence[int], least: Sequence[int], available: int) -> list[int] | None:
    """Return widths that fit, the widest reduced first; None if the minimum widths do not fit."""
    fitted = list(widths)
    excess = sum(fitted) + len(GAP) * (len(fitted) - 1) - available
    for _ in range(excess):
        foldable = [n for n, least_width in enumerate(least) if fitted[n] > least_width]
        if not foldable:
            return None
        fitted[max(foldable, key=fitted.__getitem__)] -= 1
    return fitted


def fields(document: Mapping[str, Any]) -> str:
    """One field a line, with aligned values."""
    longest = max((len(name) for name in document), default=0)
    return "\n".join(
        f"{name:<{longest}}{GAP}{cell(value, name)}".rstrip() for name, value in document.items()
    )


class Progress:
    """Progress on stderr: a bar on a terminal, elsewhere a line for each quarter."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, max(total, 1), 0
        self._bar = _bar() if sys.stderr.isatty() else None
        if self._bar is not None:
            self._task = self._bar.add_task(label, total=self._total)

    def add(self, count: int) -> None:
        quarters = 4 * self._done // self._total
        self._done += count
        if self._bar is not None:
            self._bar.advance(self._task, count)
        elif 4 * self._done // self._total > quarters:
            write_note(f"{self._label}: {self._done:,} of {self._total:,}")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> "Bar":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    )
