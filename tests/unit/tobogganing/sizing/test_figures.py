"""The figures are those of docs/performance.md, and what the code does."""

import re
from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from contract.frame import Submission, encode_frame, encode_submission
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.row import ROW_VERSION, EntityRow, encode_row
from tobogganing.sizing import figures
from tobogganing.sizing.figures import FIGURES, Figure, TableCell

PAGE = Path(__file__).parents[4] / "docs" / "performance.md"
TOLERANCE = 0.3
"""A figure may be so much less or more than the table's: runs on one machine differ by as much."""
MEMORY_OVER = 2.0
"""Memory that is planned for may be so many times what the largest fleet took; never less."""

Row = tuple[list[str], list[str]]
"""Headings and cells."""


def table(name: str) -> list[Row]:
    """Rows of a table of the page."""
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
    """What the page shows; None where a smaller run has left it out."""
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
def test_a_figure_is_that_of_its_table(name: str) -> None:
    figure: Figure = FIGURES[name]
    value = shown(figure.source)
    assert value is not None, "it is in no table"
    low, high = value * (1 - TOLERANCE), value * (1 + TOLERANCE)
    assert low <= figure.value <= high, f"{name} = Figure({value:.4g}, …) says docs/performance.md"


@pytest.mark.parametrize("service", ["gateway", "processor", "exporter"])
def test_no_fleet_took_more_memory_than_is_planned(service: str) -> None:
    rows = {row[0]: row[1:] for _, row in table("Growth")}
    base = getattr(figures, f"{service.upper()}_BASE")
    each = getattr(figures, f"{service.upper()}_ENTITY")
    each += figures.EXPORTER_REGISTERED if service == "exporter" else 0
    expected = taken = 0.0
    for entities, cell in zip(rows["entities"], rows[f"MB {service}"], strict=True):
        expected, taken = base + each * number(entities), number(cell) * 1e6
        assert taken <= expected, f"{entities} entities: planned {expected / 1e6:.0f} MB"
    assert expected <= MEMORY_OVER * taken


def batch_bytes(key: bytes | None, value: bytes) -> int:
    """What a record takes in Kafka that comes alone."""
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
    assert len(encode_submission(submission)) == figures.SUBMISSION_BYTES
    frame = batch_bytes(None, encode_frame(1795423034123, [submission]))
    assert frame == figures.SUBMISSION_BYTES + figures.FRAME_BYTES
    labels |= {"headless": "false"}
    row = EntityRow(ROW_VERSION, 123456, 17, 123456, 1795423034123, 1795423034.123, labels, metrics)
    assert batch_bytes(f"client:{id}".encode(), encode_row(row)) == figures.ROW_BYTES
    record = RegistryRecord(
        RECORD_VERSION, "client", id, 1, "Client 0012345", {"type": "native"}, ["a" * 64], 123456
    )
    taken = batch_bytes(record.key, encode_record(record))
    assert 0.9 * figures.REGISTRY_BYTES < taken <= 1.1 * figures.REGISTRY_BYTES
