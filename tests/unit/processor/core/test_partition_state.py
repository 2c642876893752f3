"""Loading: the newest position wins, in whatever order a zombie's records are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.ledger import CUT_LEDGER_VERSION, LedgerRow, RecordCut, encode_ledger_row, ledger_key
from contract.position import Position
from contract.row import POSITION_HEADER, ROW_VERSION, EntityRow, encode_position, encode_row
from processor.core.partition_state import PartitionState

KEY = b"client:a"


def row(offset: int) -> bytes:
    return encode_row(EntityRow(ROW_VERSION, offset, 0, 1, 0, 0.0, metrics={"a": offset}))


def header(offset: int) -> list[tuple[str, bytes]]:
    return [(POSITION_HEADER, encode_position(Position(offset, 0)))]


def load(state: PartitionState, *records: tuple[bytes | None, list[tuple[str, bytes]]]) -> None:
    for value, headers in records:
        state.apply(KEY, value, headers)


def test_a_lower_position_is_ignored_and_remembered() -> None:
    state = PartitionState(0)
    load(state, (row(5), []), (row(3), []))
    assert state.rows[KEY] == row(5)
    assert state.finish_loading(2) == {KEY: Position(5, 0)}


def test_a_key_whose_last_record_is_newest_again_is_forgotten() -> None:
    state = PartitionState(0)
    load(state, (row(5), []), (row(3), []), (row(5), []))
    assert state.finish_loading(3) == {}


def test_a_tombstone_removes_only_its_position_and_older_ones() -> None:
    state = PartitionState(0)
    load(state, (row(5), []), (None, header(5)))
    assert state.rows == {}
    load(state, (row(8), []), (None, header(5)))
    assert state.rows == {KEY: row(8)}
    assert state.finish_loading(4) == {KEY: Position(8, 0)}


def test_a_row_older_than_its_tombstone_stays_removed() -> None:
    state = PartitionState(0)
    load(state, (row(5), []), (None, header(5)), (row(4), []))
    assert state.rows == {}
    assert state.finish_loading(3) == {KEY: Position(5, 0)}


def test_the_ledger_never_goes_back() -> None:
    state = PartitionState(0)
    for offset in (4, 9, 7):
        state.apply(ledger_key(0), ledger(offset), [])
    assert state.ledger.offset == 9


def test_of_two_ledgers_with_one_offset_the_one_that_counts_more_wins() -> None:
    state = PartitionState(0)
    for counted in (2, 5, 3):
        row = LedgerRow(ROW_VERSION, 4, cut=RecordCut(counted, 1, 100))
        state.apply(ledger_key(0), encode_ledger_row(row), [])
    assert state.ledger.progress == (4, 5)
    state.apply(ledger_key(0), ledger(4), [])
    assert state.ledger.progress == (4, 5)
    state.apply(ledger_key(0), ledger(5), [])
    assert state.ledger.progress == (5, 0)


def test_a_cut_ledger_stops_an_older_worker_until_the_record_is_counted() -> None:
    """The older worker cannot decode the version."""
    state = PartitionState(0)
    state.apply(ledger_key(0), ledger(4), [])
    cut = encode_ledger_row(LedgerRow(ROW_VERSION, 4, cut=RecordCut(3, 1, 100)))
    unknown = cut.replace(b'"version":%d,' % CUT_LEDGER_VERSION, b'"version":99,')
    assert unknown != cut
    state.apply(ledger_key(0), unknown, [])
    state.finish_loading(2)
    assert not state.loaded
    state.apply(ledger_key(0), ledger(5), [])
    state.finish_loading(3)
    assert state.loaded


def ledger(offset: int, version: int = ROW_VERSION) -> bytes:
    return msgspec.json.encode(LedgerRow(version, offset))


def ledgers(*values: bytes) -> PartitionState:
    state = PartitionState(0)
    for value in values:
        state.apply(ledger_key(0), value, [])
    state.finish_loading(len(values))
    return state


@pytest.mark.parametrize(
    "values",
    [
        [b"{}"],
        [ledger(3), b"rubbish"],
        [ledger(3), ledger(7, version=9)],
        [ledger(7, version=9), ledger(3)],
        [ledger(3), b'{"version":9,"offset":7,"else":[]}'],
    ],
)
def test_a_partition_without_its_newest_ledger_is_not_loaded(values: list[bytes]) -> None:
    """Continuing from an older one would count submissions twice."""
    state = ledgers(*values)
    assert state.ledger_error
    assert not state.loaded
    assert state.next_offset == 0, "the next load reads all of it again"


@pytest.mark.parametrize(
    "values",
    [
        [b"rubbish", ledger(0)],
        [ledger(3), ledger(7, version=9), ledger(7)],
        [ledger(7), ledger(5, version=9)],
        [ledger(3), b"rubbish", ledger(4)],
    ],
)
def test_a_newer_ledger_replaces_an_undecodable_one(values: list[bytes]) -> None:
    state = ledgers(*values)
    assert state.ledger_error is None
    assert state.loaded


def test_nothing_is_rewritten_without_the_ledger() -> None:
    state = PartitionState(0)
    load(state, (row(5), []), (row(3), []))
    state.apply(ledger_key(0), b"rubbish", [])
    assert state.finish_loading(3) == {}


def test_an_undecodable_row_never_replaces_a_decodable_one() -> None:
    state = PartitionState(0)
    load(state, (row(5), []), (b"rubbish", []))
    assert state.rows[KEY] == row(5)


def test_a_row_of_a_newer_version_is_kept() -> None:
    newer = b'{"version":2,"offset":9,"index":0,"else":{}}'
    state = PartitionState(0)
    load(state, (row(5), []), (newer, []))
    assert state.rows[KEY] == newer


def test_own_offsets_in_a_row_leave_no_gap() -> None:
    state = PartitionState(0)
    state.finish_loading(10)
    assert state.find_gaps([(11, 13), (10, 11)]) == []
    assert state.next_offset == 13


def test_foreign_offsets_are_gaps() -> None:
    state = PartitionState(0)
    state.finish_loading(10)
    assert state.find_gaps([(12, 13), (15, 18)]) == [(10, 12), (13, 15)]
    assert state.next_offset == 18


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(0, 60))
def test_gaps_and_own_offsets_cover_all_offsets(own: set[int], known: int) -> None:
    state = PartitionState(0)
    state.finish_loading(known)
    gaps = state.find_gaps([(offset, offset + 1) for offset in own])
    foreign = {offset for start, end in gaps for offset in range(start, end)}
    assert foreign == set(range(known, max(own, default=0))) - own


@pytest.mark.parametrize("key", [b"ledger:0", b"ledger:2", b"ledger:01", b"ledger:", b"ledger:x"])
def test_only_its_own_ledger_is_a_partitions_ledger(key: bytes) -> None:
    state = PartitionState(1)
    state.apply(ledger_key(1), ledger(3), [])
    state.apply(key, ledger(10**6), [])
    assert state.ledger.offset == 3
    assert state.rows.keys() == {key}, "the expiry run reports it as undecodable"
    state.apply(key, None, [])
    assert state.rows == {}
    state.finish_loading(3)
    assert state.loaded


def test_changes_of_a_stopped_partition_are_kept_until_it_continues() -> None:
    state = PartitionState(0)
    state.stop_for_source("not certain")
    load(state, (row(5), []), (row(3), []))
    assert state.finish_loading(2) == {}
    state.resume_from_source("t", 0)
    assert state.loaded
    assert state.regressed_keys() == {KEY: Position(5, 0)}
    state.clear_regressed()
    assert state.regressed_keys() == {}


def test_rows_lost_by_the_changelog_are_kept_for_a_stopped_partition() -> None:
    gone = b"client:gone"
    state, kept = PartitionState(0), PartitionState(0)
    state.apply(ledger_key(0), ledger(9), [])
    load(state, (row(5), []))
    state.finish_loading(2)
    state.stop_for_source("not certain")
    kept.apply(gone, row(2), [])
    assert state.adopt(kept, 1) == {}
    state.finish_loading(1)
    state.resume_from_source("t", 0)
    assert state.regressed_keys() == {KEY: Position(5, 0), gone: Position(2, 0)}


def test_a_partition_that_awaits_its_source_is_not_loaded() -> None:
    state = PartitionState(0)
    state.finish_loading(1)
    state.await_source()
    assert not state.loaded
    state.finish_loading(2)
    assert not state.loaded
    state.resume_from_source("t", 0)
    assert state.loaded
