"""Exports a list as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence

from exporter.checkins.documents import Document, item
from exporter.checkins.listing import View
from exporter.checkins.query import Query
from exporter.checkins.state import group_labels

ROWS_PER_STEP = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which a spreadsheet takes a cell for a formula."""


def csv_steps(view: View, indexes: Sequence[int], query: Query) -> Iterator[bytes]:
    """Yield the rows of a list, in steps."""
    columns = ["state", "id", "name", "last_check_in", "age_seconds", "registered"]
    columns += [label for label in group_labels(query.kind) if label != query.kind]
    yield _lines([columns])
    for start in range(0, len(indexes), ROWS_PER_STEP):
        documents = (
            item(view, index, query.kind) for index in indexes[start : start + ROWS_PER_STEP]
        )
        yield _lines([_cells(document, columns) for document in documents])


def _cells(document: Document, columns: Sequence[str]) -> list[str]:
    cells = []
    for name in columns:
        value = document[name]
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = "" if value is None else str(value)
        # A quote before it makes it text to a spreadsheet.
        cells.append("'" + text if isinstance(value, str) and text.startswith(_FORMULA) else text)
    return cells


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
