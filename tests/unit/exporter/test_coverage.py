"""What a ledger says of receipts, once offsets were given twice."""

import pytest

from contract.history import SourceMark
from contract.position import Receipt
from contract.row import LedgerRow
from exporter.coverage import Coverage, coverage

COUNTED, WAITING, LOST = Coverage.COUNTED, Coverage.WAITING, Coverage.LOST


def cut_ledger(*, counted: bool = True) -> LedgerRow:
    """Offsets 0 to 9 were counted until time 1000, then the log was cut before 7."""
    mark = SourceMark(9, 2, 1000, "a" * 32)
    row = LedgerRow(version=1, offset=9, mark=mark, newest=1000)
    row.begin_history(7, epoch=4, topic="a" * 32)
    if counted:
        row.count_record(10, SourceMark(7, 4, 2000, "a" * 32), 2000)
        row.count_record(11, SourceMark(8, 4, 2100, "a" * 32), 2100)
    return row


@pytest.mark.parametrize(
    ("offset", "appended", "expected"),
    [
        (3, 500, COUNTED),
        (8, 950, COUNTED),
        (9, 1000, COUNTED),
        (10, 1000, LOST),
        (12, 1500, LOST),
        (7, 2000, COUNTED),
        (8, 2100, COUNTED),
        (9, 2200, WAITING),
    ],
)
def test_receipts_with_a_time(offset: int, appended: int, expected: Coverage) -> None:
    assert coverage(cut_ledger(), Receipt(0, offset, 0, appended)) is expected


@pytest.mark.parametrize(
    ("offset", "appended", "expected"),
    [(8, 950, COUNTED), (7, 2000, WAITING), (8, 2100, WAITING), (10, 1000, LOST)],
)
def test_before_the_new_history_has_a_record(
    offset: int, appended: int, expected: Coverage
) -> None:
    assert coverage(cut_ledger(counted=False), Receipt(0, offset, 0, appended)) is expected


@pytest.mark.parametrize(("offset", "expected"), [(3, COUNTED), (8, COUNTED), (9, WAITING)])
def test_a_receipt_without_a_time_means_the_newest(offset: int, expected: Coverage) -> None:
    assert coverage(cut_ledger(), Receipt(0, offset, 0)) is expected


def test_what_is_newer_than_all_that_was_counted_is_not_covered_by_an_offset() -> None:
    """The source went back, and no worker has compared it yet."""
    row = LedgerRow(version=1, offset=9, mark=SourceMark(9, 2, 1000, "a" * 32), newest=1000)
    assert coverage(row, Receipt(0, 8, 0, 1000)) is COUNTED
    assert coverage(row, Receipt(0, 8, 0, 1001)) is WAITING
