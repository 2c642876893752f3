"""The comparison of backup entries with current ones."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.registry_state import ApplyResult, RegistryState
from contract.row import ROW_VERSION, EntityRow
from tobogganing.backup.diff import (
    EntryStatus,
    StatusCounts,
    as_restored,
    as_successor,
    compare_record,
    compare_row,
)


def record(revision: int, incarnation: int = 5, **values: Any) -> RegistryRecord:
    return RegistryRecord(
        RECORD_VERSION, "client", "a", revision, "A", incarnation=incarnation, **values
    )


def row(offset: int, **values: Any) -> EntityRow:
    values = {"incarnation": 5, "last_appended_ms": 7, "last_check_in": 1.5} | values
    return EntityRow(ROW_VERSION, offset, 0, **values)


@dataclass(frozen=True)
class DiffCase:
    theirs: RegistryRecord | None
    standing: EntryStatus


@pytest.mark.parametrize(
    "case",
    [
        DiffCase(None, EntryStatus.MISSING),
        DiffCase(record(2), EntryStatus.MISSING),
        DiffCase(record(3), EntryStatus.THERE),
        DiffCase(record(3, api_keys=["x"]), EntryStatus.OTHER),
        DiffCase(record(4), EntryStatus.NEWER),
        DiffCase(record(1, incarnation=9), EntryStatus.NEWER),
        DiffCase(record(8, incarnation=4), EntryStatus.MISSING),
    ],
)
def test_a_record_by_registration_then_by_revision(case: DiffCase) -> None:
    assert compare_record(record(3), case.theirs, now=0) is case.standing


def test_an_expired_record_may_be_missing() -> None:
    gone = record(3, removed=True, expires_at_ms=100)
    assert compare_record(gone, None, now=99) is EntryStatus.MISSING
    assert compare_record(gone, None, now=100) is EntryStatus.ENDED


def test_a_restored_record_is_current_for_readers() -> None:
    """Includes an entity registered again, whose revisions start at 1."""
    for ours, theirs in ((record(3), record(2)), (record(1, 9), record(8, 5)), (record(4), None)):
        state = RegistryState()
        if theirs is not None:
            state.apply(0, theirs.key, encode_record(theirs))
        written = as_successor(ours, theirs)
        assert state.apply(1, ours.key, encode_record(written)) is ApplyResult.CURRENT
        held = state.current(ours.key)
        assert held is not None
        assert held == msgspec.structs.replace(ours, revision=held.revision)
        assert compare_record(ours, held, now=0) in (EntryStatus.THERE, EntryStatus.NEWER)


def test_a_restored_row_is_before_every_submission() -> None:
    ours = as_restored(row(44, metrics={"bytes_sent": 1}))
    assert (ours.offset, ours.index) == (-1, -1)
    assert ours.metrics == {"bytes_sent": 1}
    assert compare_row(ours, None) is EntryStatus.MISSING
    assert compare_row(ours, as_restored(row(3, metrics={"bytes_sent": 1}))) is EntryStatus.THERE
    assert compare_row(ours, as_restored(row(3))) is EntryStatus.OTHER
    assert compare_row(ours, row(0)) is EntryStatus.NEWER


def test_counts_name_the_first_faults() -> None:
    tally = StatusCounts()
    for standing in EntryStatus:
        tally.add("key", standing)
    assert tally.faults == ["key (missing)", "key (other)"]
    assert not tally.is_good
    for _ in range(100):
        tally.add("key", EntryStatus.OTHER)
    assert len(tally.faults) == 20
    good = StatusCounts()
    for standing in (EntryStatus.THERE, EntryStatus.NEWER, EntryStatus.ENDED):
        good.add("key", standing)
    assert good.is_good
