"""Exports a list as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence

from exporter.checkins.documents import Document, item
from exporter.checkins.list_columns import LIST_COLUMNS, ListColumn
from exporter.checkins.listing import View
from exporter.checkins.query import Query
from exporter.checkins.state import group_labels
from exporter.state.store import StateStore

ROWS_PER_STEP = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet treat a cell as a formula."""


def csv_steps(
    view: View, indexes: Sequence[int], query: Query, store: StateStore
) -> Iterator[bytes]:
    """Yield the rows of a list, in steps."""
    columns = ["state", "id", "name", "last_check_in", "age_seconds", "registered"]
    columns += [label for label in group_labels(query.kind) if label != query.kind]
    values = LIST_COLUMNS[query.kind]
    yield _lines([[*columns, *(each.name for each in values)]])
    for start in range(0, len(indexes), ROWS_PER_STEP):
        documents = (
            item(view, index, query.kind, store) for index in indexes[start : start + ROWS_PER_STEP]
        )
        yield _lines([_cells(document, columns, values) for document in documents])


def _cells(document: Document, columns: Sequence[str], values: Sequence[ListColumn]) -> list[str]:
    cells = []
    for name in columns:
        value = document[name]
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = "" if value is None else str(value)
        # With a leading quote, a spreadsheet treats it as text.
        cells.append("'" + text if isinstance(value, str) and text.startswith(_FORMULA) else text)
    numbers = [document[each.source].get(each.field) for each in values]
    return cells + ["" if number is None else str(number) for number in numbers]


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
