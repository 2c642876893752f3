"""Gaps: no offset is skipped without a reason."""

import pytest

from contract.history import NOT_A_RECORD, SourceMark
from contract.ledger import LedgerRow, empty_ledger
from processor.source.gap_check import Ahead, OffsetGapError, is_gap, skip_gap

TOPIC, EPOCH = "a" * 32, 4


def check(ledger: LedgerRow, offset: int, first: int, record: int | None) -> None:
    """Check an event at `offset`; Kafka has deleted the records before `first`."""
    if is_gap(ledger, offset):
        skip_gap(ledger, 3, offset, Ahead(first, record, 100, TOPIC, EPOCH))


@pytest.fixture
def ledger() -> LedgerRow:
    ledger = empty_ledger()
    ledger.offset = 9
    return ledger


@pytest.mark.parametrize("offset", [0, 9, 10])
def test_the_next_offset_and_replays_pass(ledger: LedgerRow, offset: int) -> None:
    check(ledger, offset, first=0, record=0)
    assert (ledger.offset, ledger.lost) == (9, 0)


def test_skipped_records_that_exist_are_an_error(ledger: LedgerRow) -> None:
    with pytest.raises(OffsetGapError, match="expected offset 10, got 12"):
        check(ledger, 12, first=0, record=10)
    assert ledger.lost == 0


def test_offsets_without_records_are_no_loss(ledger: LedgerRow) -> None:
    check(ledger, 12, first=0, record=12)
    assert (ledger.offset, ledger.lost) == (11, 0)


def test_a_skipped_record_after_a_marker_is_an_error(ledger: LedgerRow) -> None:
    with pytest.raises(OffsetGapError, match="expected offset 11, got 12"):
        check(ledger, 12, first=0, record=11)


def test_records_deleted_by_kafka_are_lost(ledger: LedgerRow) -> None:
    check(ledger, 12, first=12, record=12)
    assert (ledger.offset, ledger.lost) == (11, 2)


@pytest.mark.parametrize("record", [17, None])
def test_an_event_deleted_since_is_not_lost(ledger: LedgerRow, record: int | None) -> None:
    check(ledger, 12, first=17, record=record)
    assert (ledger.offset, ledger.lost) == (11, 2)


def test_deleted_and_skipped_records_together_are_an_error(ledger: LedgerRow) -> None:
    with pytest.raises(OffsetGapError, match="expected offset 12, got 15"):
        check(ledger, 15, first=12, record=12)
    assert ledger.lost == 2


def test_records_deleted_before_the_first_one_are_lost_too() -> None:
    ledger = empty_ledger()
    check(ledger, 5, first=5, record=5)
    assert ledger.lost == 5


def test_a_skipped_offset_gets_a_mark(ledger: LedgerRow) -> None:
    check(ledger, 12, first=0, record=12)
    assert ledger.mark == SourceMark(11, EPOCH, NOT_A_RECORD, TOPIC)
    check(ledger, 20, first=20, record=20)
    assert ledger.mark == SourceMark(19, EPOCH, NOT_A_RECORD, TOPIC)
    check(ledger, 20, first=0, record=20)
    assert (ledger.offset, ledger.lost) == (19, 8)


def test_logical_offsets_are_skipped_too(ledger: LedgerRow) -> None:
    ledger.begin_history(7, EPOCH, TOPIC)
    check(ledger, 12 + ledger.shift, first=9, record=12)
    assert (ledger.next_offset, ledger.offset, ledger.lost) == (12, 14, 2)
