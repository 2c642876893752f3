"""What was measured, on the machine of docs/performance.md: the one place to bring up to date.

`tests/unit/tobogganing/sizing/test_figures.py` compares each figure with the table that it is from,
and says what to write here when the table has changed.
"""

from typing import NamedTuple


class TableCell(NamedTuple):
    """A cell of docs/performance.md.

    `row` is how the row begins, cells joined by ` | `; `column` is in the column's heading, of
    several the last one counts; `part` names one number of a cell that holds several. Where `each`,
    the number is of as many clients as the heading says, and the figure is of one.
    """

    table: str
    row: str
    column: str
    part: str = ""
    each: bool = False


class Figure(NamedTuple):
    """`value` is in microseconds of CPU time, or what the name says."""

    value: float
    source: TableCell


_COST = "µs CPU a submission"
_LARGEST = "Tobogganing, "
"""Heading of the growing pipeline's columns: the last one is the largest fleet."""
_ALONE = "Tobogganing edge and gateway | TLS, a new connection for each"
_KEPT = "Tobogganing edge and gateway | TLS, 32 connections"

# An agent that posts itself, seldom enough that its connection is a new one each time.
EDGE_ALONE = Figure(1167.0, TableCell("Gateway", _ALONE, _COST, "HAProxy"))
GATEWAY_ALONE = Figure(900.0, TableCell("Gateway", _ALONE, _COST, "gateway"))

# A batch of a relay, which keeps its connection: once a batch, and for each submission in it.
EDGE_BATCH = Figure(110.0, TableCell("Gateway", _KEPT, _COST, "HAProxy"))
GATEWAY_BATCH = Figure(196.7, TableCell("Gateway", _KEPT, _COST, "gateway"))
GATEWAY_ITEM = Figure(
    10.0, TableCell("Gateway, batches", "Tobogganing gateway | 4 connections", _COST, "gateway")
)

# Kafka and the processor: once a frame, and for each submission in it.
_BY_ONE = "Tobogganing gateway | a new connection for each, API keys, 4"
KAFKA_FRAME = Figure(111.1, TableCell("Gateway", _BY_ONE, _COST, "Kafka"))
KAFKA_ITEM = Figure(7.69, TableCell("Growth", "Kafka, µs", _LARGEST))
PROCESSOR_FRAME = Figure(205.0, TableCell("Processor", "processor, µs", "1 worker, frames of 1,"))
PROCESSOR_ITEM = Figure(25.1, TableCell("Processor", "processor, µs", "1 worker, frames of 50,"))

# The exporter: for each submission that changes a row, and for each client that a scrape shows.
EXPORTER_ITEM = Figure(11.4, TableCell("Growth", "exporter, µs", _LARGEST))
EXPORTER_SHOWN = Figure(1.59, TableCell("Growth", "scrape CPU seconds", _LARGEST, each=True))

SCRAPE_BYTES = Figure(49.7, TableCell("Scrape", "megabytes", "clients, gzip", each=True))
"""Bytes that a client takes in a scrape, compressed."""

FIGURES = {name: each for name, each in globals().items() if isinstance(each, Figure)}

# Memory of a process, in bytes: so much at least, and for each entity that it knows or shows.
GATEWAY_BASE, GATEWAY_ENTITY = 63_000_000, 1_000
"""The registry takes half of it, what is ready for each one who submits the other half."""
PROCESSOR_BASE, PROCESSOR_ENTITY = 60_000_000, 1_500
EXPORTER_BASE, EXPORTER_ENTITY, EXPORTER_REGISTERED = 45_000_000, 1_000, 600

# Bytes in Kafka, of a client that sends all of the guide's fields.
SUBMISSION_BYTES = 286
FRAME_BYTES = 126
"""What a frame takes beside its submissions, with what Kafka adds to a record that comes alone."""
ROW_BYTES = 421
"""A row in `entity-state` that comes alone."""
REGISTRY_BYTES = 300
