"""Coverage of receipts by ledger and log after offsets were reused. Times are in minutes."""

import msgspec
import pytest

from contract.history import MAX_EPOCHS, MAX_HISTORIES, MAX_UNCOUNTED_RANGES, SourceMark
from contract.ledger import LedgerRow, decode_ledger_row
from contract.position import NO_TIME, Receipt
from contract.row import encode_row
from exporter.state.coverage import LogPlace, ReceiptCoverage, coverage, coverage_in_log

COUNTED, WAITING, LOST = ReceiptCoverage.COUNTED, ReceiptCoverage.WAITING, ReceiptCoverage.LOST
UNKNOWN = ReceiptCoverage.UNKNOWN
TOPIC = "a" * 32
NOTHING = LogPlace(None, is_counted=False, is_deleted=False)
DELETED = LogPlace(None, is_counted=False, is_deleted=True)


def minutes(count: float) -> int:
    return int(count * 60_000)


def receipt(offset: int, appended: float) -> Receipt:
    return Receipt(0, offset, 0, minutes(appended))


def other(appended: float, *, is_counted: bool = True) -> LogPlace:
    return LogPlace(minutes(appended), is_counted, is_deleted=False)


def count(row: LedgerRow, logical: int, epoch: int, appended: float) -> None:
    time = minutes(appended)
    row.count_record(logical, SourceMark(logical - row.shift, epoch, time, TOPIC), time)


def cut_ledger(*, counted: bool = True, begun: float = 2000) -> LedgerRow:
    """Offsets 0 to 9 were counted until time 1000, then the log was cut before 7."""
    row = LedgerRow(version=1, offset=-1)
    for logical in range(10):
        count(row, logical, 2, 991 + logical)
    row.begin_history(7, epoch=4, topic=TOPIC)
    if counted:
        count(row, 10, 4, begun)
        count(row, 11, 4, begun + 100)
    return row


def outgrown_ledger(*, begun: float = 2000) -> LedgerRow:
    """Offsets to 4 were counted, those to 9 acknowledged; the log was cut before 7, and grew."""
    row = LedgerRow(version=1, offset=-1)
    for logical in range(7):
        count(row, logical, 2, 991 + logical)
    for logical in range(7, 20):
        count(row, logical, 4, begun + logical - 7)
    return row


def of_the_last_version(row: LedgerRow) -> LedgerRow:
    """The same ledger as written by the previous version."""
    row.epochs = ()
    return decode_ledger_row(encode_row(row).replace(b',"newest":60000000}]', b"}]"))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    ("offset", "appended", "expected"),
    [
        (3, 500, COUNTED),
        (8, 950, COUNTED),
        (9, 1000, COUNTED),
        (10, 1000, UNKNOWN),
        (12, 1500, UNKNOWN),
        (7, 2000, COUNTED),
        (8, 2100, COUNTED),
        (9, 2200, WAITING),
    ],
)
def test_receipts_with_a_time(
    offset: int, appended: int, expected: ReceiptCoverage, is_old: bool
) -> None:
    row = of_the_last_version(cut_ledger()) if is_old else cut_ledger()
    assert (row.epochs == ()) is is_old
    assert coverage(row, receipt(offset, appended)) is expected
    if expected is UNKNOWN:
        assert coverage_in_log(row, receipt(offset, appended), NOTHING) is LOST


@pytest.mark.parametrize(
    ("offset", "appended", "expected"),
    [(8, 950, COUNTED), (7, 2000, WAITING), (8, 2100, WAITING), (10, 1000, LOST)],
)
def test_a_new_history_without_records(
    offset: int, appended: int, expected: ReceiptCoverage
) -> None:
    found = coverage(cut_ledger(counted=False), receipt(offset, appended))
    if found is UNKNOWN:
        found = coverage_in_log(cut_ledger(counted=False), receipt(offset, appended), NOTHING)
    assert found is expected


@pytest.mark.parametrize(("offset", "expected"), [(3, COUNTED), (8, COUNTED), (9, WAITING)])
def test_a_receipt_without_a_time_refers_to_the_newest_history(
    offset: int, expected: ReceiptCoverage
) -> None:
    assert coverage(cut_ledger(), Receipt(0, offset, 0, NO_TIME)) is expected


def test_a_receipt_newer_than_all_counted_records_is_not_covered() -> None:
    """The source lost its end, and no worker has compared it yet."""
    row = LedgerRow(version=1, offset=-1)
    for logical in range(10):
        count(row, logical, 2, 991 + logical)
    assert coverage(row, receipt(8, 1000)) is COUNTED
    assert coverage(row, receipt(8, 1001)) is WAITING
    assert coverage_in_log(row, receipt(8, 999), other(1001, is_counted=False)) is COUNTED
    assert coverage_in_log(row, receipt(8, 1001), NOTHING) is LOST


def test_a_ledger_without_times_compares_offsets() -> None:
    row = LedgerRow(version=1, offset=9)
    assert coverage(row, receipt(9, 1000)) is COUNTED
    assert coverage(row, receipt(10, 1000)) is WAITING


def test_a_submission_after_the_cut_is_lost_even_if_the_topic_has_grown_past_it() -> None:
    row = outgrown_ledger()
    assert row.parted == 0
    for offset in (7, 8, 9):
        old = receipt(offset, 991 + offset)
        assert coverage(row, old) is UNKNOWN
        assert coverage_in_log(row, old, other(1993 + offset)) is LOST
    assert coverage(row, receipt(6, 997)) is COUNTED
    new = receipt(8, 2000.5)
    assert coverage(row, new) is UNKNOWN, "the clocks of two brokers may differ by that"
    assert coverage_in_log(row, new, other(2000.5)) is COUNTED
    assert coverage(row, receipt(15, 2008)) is COUNTED


def test_a_lost_submission_stays_lost_after_a_second_cut() -> None:
    row = outgrown_ledger()
    row.begin_history(6, epoch=6, topic=TOPIC)
    for logical in range(20, 26):
        count(row, logical, 6, 3000 + logical)
    assert coverage_in_log(row, receipt(8, 999), other(3022)) is LOST
    assert coverage_in_log(row, receipt(8, 2001), other(3022)) is COUNTED
    assert coverage_in_log(row, receipt(8, 3022), other(3022)) is COUNTED


def test_a_new_record_is_not_lost_because_of_a_slow_clock() -> None:
    """The next leader's clock is behind: by their times, its records belong to the
    previous epoch."""
    row = outgrown_ledger(begun=996.5)
    new = receipt(7, 996.4)
    assert coverage(row, new) is UNKNOWN
    assert coverage_in_log(row, new, other(996.4)) is COUNTED
    assert coverage_in_log(row, receipt(7, 996.8), other(996.5)) is LOST


def test_times_are_ambiguous_after_a_clock_went_back() -> None:
    """The histories before and after the cut both have records of these times."""
    row = cut_ledger(begun=900)
    for offset, place, expected in (
        (8, other(999), COUNTED),
        (8, other(1000), COUNTED),  # the older one: in an epoch, an offset names one record
        (9, other(999, is_counted=False), WAITING),
        (9, NOTHING, UNKNOWN),
        (12, NOTHING, LOST),
    ):
        assert coverage_in_log(row, receipt(offset, 999), place) is expected
    assert coverage(row, receipt(9, 999)) is UNKNOWN
    assert coverage(row, receipt(9, 800)) is COUNTED
    old = of_the_last_version(row)
    old.histories = (msgspec.structs.replace(old.histories[0], newest=minutes(1000)),)
    assert coverage_in_log(old, receipt(8, 999), other(1000)) is UNKNOWN


def test_the_time_of_a_deleted_record_alone_is_not_sufficient() -> None:
    row = outgrown_ledger()
    assert coverage_in_log(row, receipt(7, 1999.5), DELETED) is UNKNOWN
    assert coverage_in_log(row, receipt(7, 998), DELETED) is LOST
    assert coverage_in_log(row, receipt(6, 997), DELETED) is COUNTED


def test_histories_that_are_not_kept_are_unknown() -> None:
    row = LedgerRow(version=1, offset=-1)
    for number in range(MAX_HISTORIES + 2):
        if number:
            row.begin_history(0, epoch=number, topic=TOPIC)
        count(row, row.offset + 1, number, 1000 * (number + 1))
    assert coverage(row, receipt(0, 1000)) is UNKNOWN
    assert coverage_in_log(row, receipt(0, 1000), other(10_000)) is UNKNOWN
    assert coverage_in_log(row, receipt(0, 9000), other(10_000)) is COUNTED


def deleted_ledger() -> LedgerRow:
    """Offsets 0 to 2 were counted until time 993, 3 to 5 deleted unread, and 6 was counted."""
    row = LedgerRow(version=1, offset=-1)
    for logical in range(3):
        count(row, logical, 2, 991 + logical)
    row.skip_to(6, 3, 2, TOPIC)
    count(row, 6, 2, 1100)
    return row


@pytest.mark.parametrize("appended", [1000, NO_TIME / 60_000])
@pytest.mark.parametrize(("offset", "expected"), [(2, COUNTED), (3, LOST), (5, LOST), (6, COUNTED)])
def test_a_submission_deleted_unread_is_not_counted(
    offset: int, expected: ReceiptCoverage, appended: float
) -> None:
    sought = receipt(offset, appended)
    found = coverage(deleted_ledger(), sought)
    if found is UNKNOWN:
        found = coverage_in_log(deleted_ledger(), sought, DELETED)
    assert found is expected


def test_a_submission_deleted_unread_and_newer_than_all_counted_is_lost() -> None:
    row = LedgerRow(version=1, offset=-1)
    count(row, 0, 2, 990)
    row.skip_to(3, 2, 2, TOPIC)
    assert coverage(row, receipt(2, 995)) is UNKNOWN
    assert coverage_in_log(row, receipt(2, 995), DELETED) is LOST
    # The log lost its end, and no worker has compared it yet.
    assert coverage_in_log(row, receipt(2, 995), other(995, is_counted=False)) is WAITING


def test_joined_ranges_are_unknown() -> None:
    row = LedgerRow(version=1, offset=-1)
    for number in range(MAX_UNCOUNTED_RANGES + 1):
        count(row, 3 * number, 2, 991 + number)
        row.skip_to(3 * number + 3, 2, 2, TOPIC)
    count(row, row.offset + 1, 2, 2000)
    assert sum(each.lost for each in row.uncounted) == row.lost
    for offset in range(1, 6):
        assert coverage(row, receipt(offset, 991)) is UNKNOWN
        assert coverage_in_log(row, receipt(offset, 991), DELETED) is UNKNOWN
    assert coverage_in_log(row, receipt(3, 992), other(992)) is COUNTED
    assert coverage_in_log(row, receipt(7, 993), DELETED) is LOST


def test_before_the_kept_epochs_only_the_log_is_sufficient() -> None:
    """Offsets 5 to 9 were acknowledged, lost unread, and reused many epochs ago."""
    row = LedgerRow(version=1, offset=-1)
    for logical in range(5):
        count(row, logical, 0, 100 + logical)
    for epoch in range(1, MAX_EPOCHS + 2):
        count(row, 4 + epoch, epoch, 1000 * epoch)
    assert row.epochs[0].first == 6
    for offset in (3, 5):
        sought = receipt(offset, 103 if offset == 3 else 110)
        assert coverage(row, sought) is UNKNOWN
        assert coverage_in_log(row, sought, DELETED) is UNKNOWN
    assert coverage_in_log(row, receipt(3, 103), other(103)) is COUNTED
    assert coverage_in_log(row, receipt(5, 110), other(1000)) is LOST
    assert coverage(row, receipt(7, 110)) is UNKNOWN, "it is LOST according to the log"
    assert coverage_in_log(row, receipt(7, 110), DELETED) is LOST
    assert coverage(row, receipt(10, 6500)) is COUNTED


def test_rows_without_their_ledger_are_unknown_after_their_source_is_lost() -> None:
    row = LedgerRow(version=1, offset=-1)
    count(row, 0, 2, 991)
    row.cover_uncounted(2)
    row.begin_history(1, epoch=4, topic=TOPIC)
    count(row, 3, 4, 2000)
    assert coverage(row, receipt(0, 991)) is COUNTED
    for offset in (1, 2):
        assert coverage(row, receipt(offset, 992)) is UNKNOWN
        assert coverage_in_log(row, receipt(offset, 992), NOTHING) is UNKNOWN
    assert coverage(row, receipt(1, 2000)) is UNKNOWN
    assert coverage_in_log(row, receipt(1, 2000), other(2000)) is COUNTED
