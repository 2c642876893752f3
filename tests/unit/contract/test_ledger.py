"""The leader epochs and append times in a ledger."""

import msgspec

from contract.history import MAX_EPOCHS, History, LeaderEpoch, SourceMark, UncountedRange
from contract.ledger import (
    CUT_LEDGER_VERSION,
    LedgerRow,
    RecordCut,
    decode_ledger_offset,
    decode_ledger_row,
    empty_ledger,
    encode_ledger_row,
)
from contract.position import Position

TOPIC = "a" * 32


def count(row: LedgerRow, logical: int, epoch: int, appended: int) -> None:
    row.count_record(logical, SourceMark(logical - row.shift, epoch, appended, TOPIC), appended)


def test_an_epoch_begins_after_the_last_counted_record() -> None:
    row = empty_ledger()
    count(row, 0, 1, 100)
    count(row, 1, 1, 90)
    count(row, 2, 1, 120)
    count(row, 5, 3, 110)  # offsets 3 and 4 have no record
    assert row.epochs == (LeaderEpoch(1, 0, 0, 90, 0), LeaderEpoch(3, 3, 0, 110, 120))
    assert decode_ledger_row(encode_ledger_row(row)) == row


def test_a_new_history_begins_a_new_epoch_even_with_the_same_number() -> None:
    row = empty_ledger()
    count(row, 0, 0, 100)
    row.begin_history(0, epoch=0, topic="b" * 32)
    assert row.histories == (History(1, 1, 0, "b" * 32, newest=100),)
    count(row, 1, 0, 50)
    assert row.epochs == (LeaderEpoch(0, 0, 0, 100, 0), LeaderEpoch(0, 1, 1, 50, 100))


def test_only_the_newest_epochs_are_kept() -> None:
    row = empty_ledger()
    for number in range(MAX_EPOCHS + 3):
        count(row, number, number, number)
    assert [each.epoch for each in row.epochs] == list(range(3, MAX_EPOCHS + 3))


def test_a_ledger_of_an_older_version_is_read() -> None:
    old = (
        b'{"version":2,"offset":9,"read":10,"applied":10,"newest":1000,"parted":1,"mark":null,'
        b'"histories":[{"first":10,"shift":3,"epoch":4,"topic":"' + TOPIC.encode() + b'"}]}'
    )
    row = decode_ledger_row(old)
    assert (row.epochs, row.histories[0].newest) == ((), 0)


def cut_ledger() -> LedgerRow:
    """Offset 4 is counted, and the first 3 submissions of the record at offset 5."""
    row = empty_ledger()
    count(row, 4, 1, 100)
    row.cut = RecordCut(3, 1, 110)
    return row


def test_a_program_without_support_for_cuts_sees_a_newer_undecodable_ledger() -> None:
    """With the offset of the previous ledger, it would continue and count the part again."""
    row = cut_ledger()
    written = encode_ledger_row(row)
    assert b'"version":%d,' % CUT_LEDGER_VERSION in written
    assert decode_ledger_offset(written) == row.offset + 1 == 5
    assert decode_ledger_row(written) == msgspec.structs.replace(row, version=CUT_LEDGER_VERSION)


def test_a_cut_ends_when_its_record_is_counted_skipped_or_lost() -> None:
    row = cut_ledger()
    assert (row.progress, row.next_offset) == (Position(4, 3), 5)
    count(row, 5, 1, 110)
    assert (row.cut, row.progress) == (None, Position(5, 0))
    assert b'"version":1,' in encode_ledger_row(row)

    row = cut_ledger()
    row.skip_to(5, 0, 1, TOPIC)
    assert row.cut is not None, "the next record is still the one that is cut"
    row.skip_to(7, 2, 1, TOPIC)
    assert row.cut is None

    row = cut_ledger()
    row.cover_uncounted(5)
    assert row.cut is None


def test_offsets_of_uncounted_rows_are_covered_as_uncounted() -> None:
    row = empty_ledger()
    count(row, 0, 1, 100)
    row.cover_uncounted(0)
    assert not row.uncounted
    row.cover_uncounted(3)
    row.begin_history(1, epoch=3, topic=TOPIC)
    assert row.uncounted == (UncountedRange(1, 4, lost=0),)
    assert (row.uncounted[0].is_exact, row.lost) == (False, 0)
    assert row.histories[-1].first == 4
