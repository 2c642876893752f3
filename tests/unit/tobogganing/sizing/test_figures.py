"""The capacity plan's figures are those of docs/performance.md and of the wire formats."""

from random import Random

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from contract.frame import Submission, encode_frame, encode_submission
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.row import ROW_VERSION, EntityRow, encode_row
from service.kafka.aiokafka_compat.zstd_codec import zstd_batch
from tests.capacity import FILE, rewritten
from tests.published import FIGURES, number, shown, table
from tobogganing.sizing import constants, figures

MEMORY_OVER = 2.0
"""Planned memory, as a multiple of the largest measured fleet's; never below 1."""


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_their_tables(name: str) -> None:
    """A table that the last whole run did not have leaves its figures as they are."""
    value, figure = shown(FIGURES[name]), getattr(figures, name)
    assert figure > 0
    assert value in (None, pytest.approx(figure)), "run python -m tests.capacity"


def test_the_file_has_these_figures_and_no_others() -> None:
    assert {name for name in vars(figures) if name.isupper()} == FIGURES.keys()
    assert rewritten(FILE.read_text("utf-8")) == FILE.read_text("utf-8")


@pytest.mark.parametrize("service", ["gateway", "processor", "exporter"])
def test_measured_memory_is_within_the_plan(service: str) -> None:
    rows = {row[0]: row[1:] for _, row in table("Growth")}
    base = getattr(constants, f"{service.upper()}_BASE")
    each = getattr(constants, f"{service.upper()}_ENTITY")
    each += constants.EXPORTER_REGISTERED if service == "exporter" else 0
    expected = taken = 0.0
    for entities, cell in zip(rows["entities"], rows[f"MB {service}"], strict=True):
        expected, taken = base + each * number(entities), number(cell) * 1e6
        assert taken <= expected, f"{entities} entities: planned {expected / 1e6:.0f} MB"
    assert expected <= MEMORY_OVER * taken


def packed_frame(submissions: list[Submission]) -> int:
    batch = zstd_batch(1_000_000)
    frame = encode_frame(1795423034123, submissions)
    batch.append(timestamp=None, key=None, value=frame, headers=[])
    return len(batch._build())


@pytest.mark.parametrize("count", [1, 2, 5, 10, 20, 50])
def test_compressed_frames_have_the_planned_size(count: int) -> None:
    """The clients differ; the names of one frame are similar."""
    random = Random(count)
    submissions = []
    for _ in range(count):
        id = f"{random.randrange(10**7):07}"
        labels = {"name": f"Client {id}", "type": "native"}
        metrics: dict[str, int | float] = {
            "bytes_sent": random.randrange(10**9, 10**10),
            "bytes_received": random.randrange(10**9, 10**10),
            "packets_sent": random.randrange(10**7, 10**8),
            "packets_received": random.randrange(10**7, 10**8),
            "connection_uptime": float(random.randrange(10**4, 10**6)),
        }
        defaults = {"headless": "false"}
        submissions.append(Submission("client", f"client-{id}", 123456, labels, defaults, metrics))
    planned = constants.PACKED_FRAME_BYTES + count * constants.PACKED_SUBMISSION_BYTES
    assert 0.75 * planned < packed_frame(submissions) <= 1.05 * planned


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
    assert len(encode_submission(submission)) == constants.SUBMISSION_BYTES
    labels |= {"headless": "false"}
    row = EntityRow(ROW_VERSION, 123456, 17, 123456, 1795423034123, 1795423034.123, labels, metrics)
    assert batch_bytes(f"client:{id}".encode(), encode_row(row)) == constants.ROW_BYTES
    record = RegistryRecord(
        RECORD_VERSION, "client", id, 1, "Client 0012345", {"type": "native"}, ["a" * 64], 123456
    )
    taken = batch_bytes(record.key, encode_record(record))
    assert 0.9 * constants.REGISTRY_BYTES < taken <= 1.1 * constants.REGISTRY_BYTES
