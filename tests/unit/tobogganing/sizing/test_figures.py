"""The capacity plan's figures are those of docs/performance.md and of the wire formats."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from contract.frame import Submission, encode_frame, encode_submission
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.row import ROW_VERSION, EntityRow, encode_row
from tobogganing import sizing

PAGE = Path(__file__).parents[4] / "docs" / "performance.md"
TOLERANCE = 0.3
"""Allowed difference to the table: runs on one machine differ by as much."""
MEMORY_OVER = 2.0
"""Planned memory, as a multiple of the largest measured fleet's; never below 1."""

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
_ALONE = "Tobogganing edge and gateway | TLS, a new connection for each"
_KEPT = "Tobogganing edge and gateway | TLS, 32 connections"
_SINGLE = "Tobogganing gateway | a new connection for each, API keys, 4"
_BATCHES = "Tobogganing gateway | 4 connections"

FIGURES = {
    "EDGE_ALONE": TableCell("Gateway", _ALONE, _COST, "HAProxy"),
    "GATEWAY_ALONE": TableCell("Gateway", _ALONE, _COST, "gateway"),
    "EDGE_BATCH": TableCell("Gateway", _KEPT, _COST, "HAProxy"),
    "GATEWAY_BATCH": TableCell("Gateway", _KEPT, _COST, "gateway"),
    "GATEWAY_ITEM": TableCell("Gateway, batches", _BATCHES, _COST, "gateway"),
    "KAFKA_FRAME": TableCell("Gateway", _SINGLE, _COST, "Kafka"),
    "KAFKA_ITEM": TableCell("Growth", "Kafka, µs", _LARGEST),
    "PROCESSOR_FRAME": TableCell("Processor", "processor, µs", "1 worker, frames of 1,"),
    "PROCESSOR_ITEM": TableCell("Processor", "processor, µs", "1 worker, frames of 50,"),
    "EXPORTER_ITEM": TableCell("Growth", "exporter, µs", _LARGEST),
    "EXPORTER_SHOWN": TableCell("Growth", "scrape CPU seconds", _LARGEST, each=True),
    "SCRAPE_BYTES": TableCell("Scrape", "megabytes", "clients, gzip", each=True),
}


def table(name: str) -> list[Row]:
    """The rows of a table."""
    text = PAGE.read_text("utf-8").partition(f"<!-- bench: {name} -->")[2].partition("<!-- end")[0]
    heads, _, *rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in text.replace("|  |", "| - |").splitlines()
        if line.startswith("|")
    ]
    return [(heads, row) for row in rows]


def number(text: str) -> float:
    found = re.search(r"\d[\d,]*(\.\d+)?", text)
    assert found, text
    return float(found[0].replace(",", ""))


def shown(source: TableCell) -> float | None:
    """The cell's value; None if a smaller run has no such column."""
    for heads, row in table(source.table):
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


@pytest.mark.parametrize("name", FIGURES)
def test_figures_agree_with_their_tables(name: str) -> None:
    value, figure = shown(FIGURES[name]), getattr(sizing, name)
    assert value is not None, "it is in no table"
    low, high = value * (1 - TOLERANCE), value * (1 + TOLERANCE)
    assert low <= figure <= high, f"docs/performance.md has {name} = {value:.4g}"


@pytest.mark.parametrize("service", ["gateway", "processor", "exporter"])
def test_measured_memory_is_within_the_plan(service: str) -> None:
    rows = {row[0]: row[1:] for _, row in table("Growth")}
    base = getattr(sizing, f"{service.upper()}_BASE")
    each = getattr(sizing, f"{service.upper()}_ENTITY")
    each += sizing.EXPORTER_REGISTERED if service == "exporter" else 0
    expected = taken = 0.0
    for entities, cell in zip(rows["entities"], rows[f"MB {service}"], strict=True):
        expected, taken = base + each * number(entities), number(cell) * 1e6
        assert taken <= expected, f"{entities} entities: planned {expected / 1e6:.0f} MB"
    assert expected <= MEMORY_OVER * taken


def batch_bytes(key: bytes | None, value: bytes) -> int:
    """The size of a record batch with one record."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 1_000_000)
    builder.append(0, 1795423034123, key, value, [])
    return len(builder.build())


def test_bytes_are_those_of_the_guides_client() -> None:
    labels = {"name": "Client 0012345", "type": "native"}
    metrics: dict[str, int | float] = {
        "bytes_sent": 1234567890,
        "bytes_received": 9876543210,
        "packets_sent": 12345678,
        "packets_received": 87654321,
        "connection_uptime": 86400.0,
    }
    id = "client-0012345"
    submission = Submission("client", id, 123456, labels, {"headless": "false"}, metrics)
    assert len(encode_submission(submission)) == sizing.SUBMISSION_BYTES
    frame = batch_bytes(None, encode_frame(1795423034123, [submission]))
    assert frame == sizing.SUBMISSION_BYTES + sizing.FRAME_BYTES
    labels |= {"headless": "false"}
    row = EntityRow(ROW_VERSION, 123456, 17, 123456, 1795423034123, 1795423034.123, labels, metrics)
    assert batch_bytes(f"client:{id}".encode(), encode_row(row)) == sizing.ROW_BYTES
    record = RegistryRecord(
        RECORD_VERSION, "client", id, 1, "Client 0012345", {"type": "native"}, ["a" * 64], 123456
    )
    taken = batch_bytes(record.key, encode_record(record))
    assert 0.9 * sizing.REGISTRY_BYTES < taken <= 1.1 * sizing.REGISTRY_BYTES
