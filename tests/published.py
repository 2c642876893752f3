"""The figures of the capacity plan, as the tables of docs/performance.md have them."""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

Row = tuple[list[str], list[str]]
"""Column names and cells."""


class TableCell(NamedTuple):
    """A cell of docs/performance.md.

    `row` is the start of the row, cells joined by ` | `. `column` is part of the column's name; of
    several the last one counts. `part` selects one number of a cell with several. With `each` the
    number is of as many clients as the column's name says, and the figure is of one client.
    """

    table: str
    row: str
    column: str
    part: str = ""
    each: bool = False


_COST = "µs CPU a submission"
_LARGEST = "Tobogganing, "
_KEPT = "Tobogganing edge and gateway | TLS, 32 connections"
_BATCHES = "Tobogganing gateway | 4 connections"
_ALONE = "Tobogganing | 1,000 a second, kept TLS connections through the edge"
_NEW = "Tobogganing | 300 a second, new TLS connections through the edge"

FIGURES = {
    "EDGE_NEW": TableCell("Fleet", _NEW, _COST, "HAProxy"),
    "EDGE_KEPT": TableCell("Fleet", _ALONE, _COST, "HAProxy"),
    "GATEWAY_ALONE": TableCell("Fleet", _ALONE, _COST, "gateway"),
    "EDGE_BATCH": TableCell("Gateway", _KEPT, _COST, "HAProxy"),
    "GATEWAY_BATCH": TableCell("Gateway", _KEPT, _COST, "gateway"),
    "GATEWAY_ITEM": TableCell("Gateway, batches", _BATCHES, _COST, "gateway"),
    "KAFKA_ALONE": TableCell("Fleet", _ALONE, _COST, "Kafka"),
    "KAFKA_ITEM": TableCell("Growth", "Kafka, µs", _LARGEST),
    "PROCESSOR_ALONE": TableCell("Fleet", _ALONE, _COST, "processor"),
    "PROCESSOR_ITEM": TableCell("Processor", "processor, µs", "1 worker, frames of 50,"),
    "EXPORTER_ALONE": TableCell("Fleet", _ALONE, _COST, "exporter"),
    "EXPORTER_ITEM": TableCell("Growth", "exporter, µs", _LARGEST),
    "EXPORTER_SHOWN": TableCell("Growth", "scrape CPU seconds", _LARGEST, each=True),
    "SCRAPE_BYTES": TableCell("Scrape", "megabytes", "clients, gzip", each=True),
}


def table(name: str) -> list[Row]:
    """The rows of a table."""
    text = PAGE.read_text("utf-8").partition(f"<!-- bench: {name} -->")[2].partition("<!-- end")[0]
    lines = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in text.replace("|  |", "| - |").splitlines()
        if line.startswith("|")
    ]
    return [(lines[0], row) for row in lines[2:]]


def number(text: str) -> float:
    found = re.search(r"\d[\d,]*(\.\d+)?", text)
    assert found, text
    return float(found[0].replace(",", ""))


def shown(source: TableCell) -> float | None:
    """The cell's value; None if the run had no such table or column."""
    rows = table(source.table)
    if not rows:
        return None
    for heads, row in rows:
        if not " | ".join(row).startswith(source.row):
            continue
        columns = [n for n, head in enumerate(heads) if source.column in head]
        if not columns:
            return None
        cell = row[columns[-1]]
        value = number(cell.partition(source.part)[2] if source.part else cell)
        if source.part:
            assert source.part in cell
        if not source.each:
            return value
        clients = number(heads[columns[-1]])
        return value / clients * (1e6 if "seconds" in row[0].lower() or "mega" in row[0] else 1)
    raise AssertionError(f"docs/performance.md has no row {source}")
