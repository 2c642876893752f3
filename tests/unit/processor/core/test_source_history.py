"""Comparing a ledger's history with what Kafka reports."""

from dataclasses import replace
from typing import Any

import pytest

from contract.history import SourceMark
from contract.ledger import LedgerRow, empty_ledger
from processor.core.partition_state import PartitionState
from processor.core.source_history import (
    Confirmation,
    Diverged,
    Finding,
    Same,
    SourceLogState,
    Uncertain,
    compare_ledger,
)
from processor.source.comparison import assess, remains_stopped

TOPIC, OTHER = "a" * 32, "b" * 32
MARK = SourceMark(offset=9, epoch=2, appended=1000, topic=TOPIC)


def ledger(**values: Any) -> LedgerRow:
    row: dict[str, Any] = {"version": 1, "offset": 9, "mark": MARK, "newest": 1000}
    return LedgerRow(**row | values)


INTACT = SourceLogState(
    topic=TOPIC, first=0, end=20, leader_epoch=2, epoch=2, epoch_end=20, marked=1000
)


def intact(**values: Any) -> SourceLogState:
    return replace(INTACT, **values)


@pytest.mark.parametrize(
    "found",
    [
        intact(),
        intact(end=10, epoch_end=10),
        intact(leader_epoch=4, epoch_end=10),
        intact(first=10, marked=None),
        intact(first=50, end=90, leader_epoch=6, epoch_end=50, marked=None),
    ],
    ids=["same epoch", "nothing more", "leader changed", "mark deleted", "all deleted"],
)
def test_the_same_history(found: SourceLogState) -> None:
    assert compare_ledger(ledger(), found) == Same()


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (intact(end=7, leader_epoch=4, epoch_end=7, marked=None, newest_kept=900), 7),
        (intact(end=90, leader_epoch=4, epoch_end=7, marked=None, newest_kept=900), 7),
        (intact(end=3, leader_epoch=6, epoch=0, epoch_end=3, marked=None, newest_kept=1), 3),
        (intact(end=0, leader_epoch=4, epoch=4, epoch_end=0, marked=None), 0),
        (intact(topic=OTHER, end=0, leader_epoch=0, epoch=-1, epoch_end=-1, marked=None), 0),
        (intact(topic=OTHER, epoch=-1, epoch_end=-1, marked=None, oldest=1500), 0),
    ],
    ids=["cut", "cut and outgrown", "epochs cut", "empty", "recreated", "recreated and outgrown"],
)
def test_two_histories_diverge_at_an_offset(found: SourceLogState, start: int) -> None:
    comparison = compare_ledger(ledger(), found)
    assert isinstance(comparison, Diverged)
    assert comparison.start == start


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (intact(marked=1001), "another append time"),
        (intact(marked=None), "missing"),
        (intact(leader_epoch=1, epoch=-1, epoch_end=-1, marked=None), "older copy"),
        (intact(leader_epoch=4, epoch_end=7, marked=None, newest_kept=1001), "newer than"),
        (intact(topic=OTHER, epoch=-1, oldest=1000 - 70_000), "older than"),
    ],
)
def test_contradictory_evidence_is_uncertain(found: SourceLogState, why: str) -> None:
    comparison = compare_ledger(ledger(), found)
    assert isinstance(comparison, Uncertain)
    assert why in comparison.reason


def test_the_topic_must_reach_a_ledger_of_an_older_version() -> None:
    old = ledger(mark=None, newest=0)
    assert compare_ledger(old, intact(epoch=-1, epoch_end=-1, end=10)) == Same()
    assert isinstance(compare_ledger(old, intact(epoch=-1, epoch_end=-1, end=9)), Uncertain)
    assert compare_ledger(empty_ledger(), intact(epoch=-1, epoch_end=-1, end=0)) == Same()


def test_a_history_continues_with_growing_logical_offsets() -> None:
    row = ledger()
    row.begin_history(7, epoch=4, topic=TOPIC)
    assert (row.offset, row.shift, row.next_offset, row.parted) == (9, 3, 7, 1)
    assert compare_ledger(row, intact(leader_epoch=4, epoch=4, epoch_end=12, marked=None)) == Same()
    row.count_record(10, SourceMark(7, 4, 2000, TOPIC), 2000)
    assert (row.next_offset, row.newest, row.histories[-1].appended) == (8, 2000, 2000)
    assert compare_ledger(row, intact(leader_epoch=4, epoch=4, epoch_end=12, marked=2000)) == Same()


def test_a_second_cut_replaces_a_history_without_records() -> None:
    row = ledger()
    row.begin_history(7, epoch=4, topic=TOPIC)
    comparison = compare_ledger(
        row, intact(end=5, leader_epoch=6, epoch=2, epoch_end=5, marked=None)
    )
    assert isinstance(comparison, Diverged)
    row.begin_history(comparison.start, epoch=6, topic=TOPIC)
    assert [(each.first, each.start) for each in row.histories] == [(10, 5)]
    assert (row.next_offset, row.parted) == (5, 2)


def test_an_uncertain_ledger_stays_uncertain_when_the_topic_grows_past_it() -> None:
    """The group's commit says so; records appended since were never read."""
    old = ledger(mark=None, newest=0)
    grown = intact(epoch=-1, epoch_end=-1, end=30, stopped="the topic ends at 4")
    assert compare_ledger(old, grown) == Uncertain("the topic ends at 4")
    old.begin_history(4, epoch=2, topic=TOPIC)
    assert compare_ledger(old, intact(end=30, epoch_end=30, marked=None, stopped="was")) == Same()


def test_a_stop_is_remembered_before_it_is_committed() -> None:
    state = PartitionState(0)
    state.ledger = ledger(mark=None, newest=0)
    state.stop_for_source("the topic ends at 4")
    found = assess(state, state.ledger, intact(epoch=-1, epoch_end=-1, end=30))
    assert found.comparison == Uncertain("the topic ends at 4")
    assert remains_stopped(state, found)


def test_a_cut_below_skipped_offsets_is_found_however_far_the_topic_grows() -> None:
    """The mark is at 9; offsets 10 to 14 had no records. None of the new records may be skipped."""
    row = ledger()
    row.skip_to(15, 0, 2, TOPIC)
    cut = intact(end=21, leader_epoch=4, epoch_end=12, marked=None, newest_kept=None)
    comparison = compare_ledger(row, cut)
    assert isinstance(comparison, Diverged)
    assert comparison.start == 12
    assert compare_ledger(row, intact(marked=None)) == Same(), (
        "a skipped offset has no record to compare"
    )
    assert compare_ledger(row, intact(leader_epoch=4, epoch_end=15, marked=None)) == Same()


@pytest.mark.parametrize("lost", [0, 3])
def test_a_mark_before_the_next_offset_is_no_limit(lost: int) -> None:
    """Ledgers of older versions skipped offsets without a mark."""
    row = ledger(offset=14, lost=lost)
    comparison = compare_ledger(row, intact(end=30, leader_epoch=4, epoch_end=12, marked=1000))
    assert isinstance(comparison, Diverged)
    assert comparison.start == 12


def finding(found: SourceLogState) -> Finding:
    return Finding(ledger(), found, compare_ledger(ledger(), found))


def cut_at(offset: int, leader_epoch: int = 4) -> Finding:
    return finding(intact(end=offset, leader_epoch=leader_epoch, epoch_end=offset, marked=None))


def test_a_new_history_must_be_found_three_times() -> None:
    run = Confirmation(3)
    assert [run.add(each) for each in (cut_at(7), cut_at(7), cut_at(7))] == [False, False, True]
    run = Confirmation(3)
    findings = [cut_at(5), cut_at(7), cut_at(7), cut_at(5), cut_at(5), cut_at(5)]
    assert [run.add(each) for each in findings] == [*[False] * 5, True]


def test_a_different_finding_starts_over() -> None:
    run = Confirmation(2)
    uncertain = finding(intact(marked=1001))
    recreated = finding(intact(topic=OTHER, end=0, epoch=-1, epoch_end=-1, marked=None))
    again = finding(intact(topic="c" * 32, end=0, epoch=-1, epoch_end=-1, marked=None))
    findings = [cut_at(7), uncertain, cut_at(7), recreated, again, again]
    assert [run.add(each) for each in findings] == [*[False] * 5, True]


def test_the_same_history_needs_no_confirmation() -> None:
    assert Confirmation(3).add(finding(intact()))
