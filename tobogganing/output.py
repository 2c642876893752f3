"""Output of commands: JSON, aligned columns, notes and progress."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from unicodedata import combining, east_asian_width

import click

GAP = "  "


def write_document(document: Mapping[str, Any], as_json: bool) -> None:
    """Write one result to stdout: as one JSON document, or one field a line."""
    click.echo(json.dumps(document, ensure_ascii=False) if as_json else fields(document))


def write_note(text: str) -> None:
    """Write a remark to stderr."""
    click.echo(text, err=True)


def width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cell(value: Any) -> str:
    """A value as text in one line, without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))


class ColumnTable:
    """Rows in aligned columns; a column grows with later rows and never shrinks."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._widths = [width(column) for column in columns]
        self._has_head = False

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """The lines of the next rows; the first call adds the column names."""
        cells = [[cell(row.get(column)) for column in self._columns] for row in rows]
        for row in cells:
            self._widths = [max(w, width(c)) for w, c in zip(self._widths, row, strict=True)]
        if not self._has_head:
            self._has_head = True
            cells.insert(0, [column.upper() for column in self._columns])
        return [self._line(row) for row in cells]

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the next rows to stdout."""
        click.echo("\n".join(self.lines(rows)))

    def _line(self, row: Sequence[str]) -> str:
        padded = (c + " " * (w - width(c)) for w, c in zip(self._widths, row, strict=True))
        return GAP.join(padded).rstrip()


def fields(document: Mapping[str, Any]) -> str:
    """One field a line, with aligned values."""
    longest = max((len(name) for name in document), default=0)
    return "\n".join(
        f"{name:<{longest}}{GAP}{cell(value)}".rstrip() for name, value in document.items()
    )


class Progress:
    """Progress on stderr: a bar on a terminal, elsewhere a line for each quarter."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, max(total, 1), 0
        self._bar = click.progressbar(
            length=self._total,
            label=label,
            file=sys.stderr,
            show_pos=True,
            hidden=not sys.stderr.isatty(),
            update_min_steps=max(1, self._total // 200),
        )

    def add(self, count: int) -> None:
        quarters = 4 * self._done // self._total
        self._done += count
        self._bar.update(count)
        if self._bar.hidden and 4 * self._done // self._total > quarters:
            write_note(f"{self._label}: {self._done:,} of {self._total:,}")

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)
