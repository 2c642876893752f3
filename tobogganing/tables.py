"""How answers look on a terminal: aligned columns, or one field a line. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import combining, east_asian_width

GAP = "  "


def width(text: str) -> int:
    """Columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cell(value: Any) -> str:
    """One value as people read it, in one line and without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))


class ColumnTable:
    """Lines of columns; a column grows where a later row is wider, and never shrinks."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._widths = [width(column) for column in columns]
        self._has_head = False

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
        """Return the lines of the next rows; the first come with a heading."""
        cells = [[cell(row.get(column)) for column in self._columns] for row in rows]
        for row in cells:
            self._widths = [max(w, width(c)) for w, c in zip(self._widths, row, strict=True)]
        if not self._has_head:
            self._has_head = True
            cells.insert(0, [column.upper() for column in self._columns])
        return [self._line(row) for row in cells]

    def _line(self, row: Sequence[str]) -> str:
        padded = (c + " " * (w - width(c)) for w, c in zip(self._widths, row, strict=True))
        return GAP.join(padded).rstrip()


def fields(document: Mapping[str, Any]) -> str:
    """One field a line, values aligned."""
    longest = max((len(name) for name in document), default=0)
    return "\n".join(
        f"{name:<{longest}}{GAP}{cell(value)}".rstrip() for name, value in document.items()
    )
