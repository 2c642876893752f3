"""What a ledger keeps of leader epochs and of the newest append time before a history."""

from contract.history import MAX_EPOCHS, History, LeaderEpoch, SourceMark, UncountedRange
from contract.row import LedgerRow, decode_ledger_row, empty_ledger, encode_row

TOPIC = "a" * 32


def count(row: LedgerRow, logical: int, epoch: int, appended: int) -> None:
    row.count_record(logical, SourceMark(logical - row.shift, epoch, appended, TOPIC), appended)


def test_an_epoch_begins_after_the_last_counted_record() -> None:
    row = empty_ledger()
    count(row, 0, 1, 100)
    count(row, 1, 1, 90)
    count(row, 2, 1, 120)
    count(row, 5, 3, 110)  # Offsets 3 and 4 have no record.
    assert row.epochs == (LeaderEpoch(1, 0, 0, 90, 0), LeaderEpoch(3, 3, 0, 110, 120))
    assert decode_ledger_row(encode_row(row)) == row


def test_a_history_begins_an_epoch_also_with_the_same_number() -> None:
    row = empty_ledger()
    count(row, 0, 0, 100)
    row.begin_history(0, epoch=0, topic="b" * 32)
    assert row.histories == (History(1, 1, 0, "b" * 32, newest=100),)
    count(row, 1, 0, 50)
    assert row.epochs == (LeaderEpoch(0, 0, 0, 100, 0), LeaderEpoch(0, 1, 1, 50, 100))


def test_the_newest_epochs_are_kept() -> None:
    row = empty_ledger()
    for number in range(MAX_EPOCHS + 3):
        count(row, number, number, number)
    assert [each.epoch for each in row.epochs] == list(range(3, MAX_EPOCHS + 3))


def test_a_ledger_without_these_fields_is_read() -> None:
    old = (
        b'{"version":2,"offset":9,"read":10,"applied":10,"newest":1000,"parted":1,"mark":null,'
        b'"histories":[{"first":10,"shift":3,"epoch":4,"topic":"' + TOPIC.encode() + b'"}]}'
    )
    row = decode_ledger_row(old)
    assert (row.epochs, row.histories[0].newest) == ((), 0)


def test_offsets_of_rows_that_were_not_counted_are_covered_as_such() -> None:
    row = empty_ledger()
    count(row, 0, 1, 100)
    row.cover_uncounted(0)
    assert not row.uncounted
    row.cover_uncounted(3)
    row.begin_history(1, epoch=3, topic=TOPIC)
    assert row.uncounted == (UncountedRange(1, 4, lost=0),)
    assert (row.uncounted[0].is_exact, row.lost) == (False, 0)
    assert row.histories[-1].first == 4
