"""What is newer, and what cannot be."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from contract.registry import RECORD_VERSION, Applied, RegistryRecord, RegistryState, encode_record
from contract.row import ROW_VERSION, EntityRow
from tobogganing.backups.standing import Standing, Tally, begun, of_record, of_row, succeeding


def record(revision: int, generation: int = 5, **values: Any) -> RegistryRecord:
    return RegistryRecord(
        RECORD_VERSION, "client", "a", revision, "A", generation=generation, **values
    )


def row(offset: int, **values: Any) -> EntityRow:
    values = {"generation": 5, "heard_at": 7, "last_check_in": 1.5} | values
    return EntityRow(ROW_VERSION, offset, 0, **values)


@dataclass(frozen=True)
class Case:
    theirs: RegistryRecord | None
    standing: Standing


@pytest.mark.parametrize(
    "case",
    [
        Case(None, Standing.MISSING),
        Case(record(2), Standing.MISSING),
        Case(record(3), Standing.THERE),
        Case(record(3, api_keys=["x"]), Standing.OTHER),
        Case(record(4), Standing.NEWER),
        Case(record(1, generation=9), Standing.NEWER),
        Case(record(8, generation=4), Standing.MISSING),
    ],
)
def test_a_record_by_registration_then_by_revision(case: Case) -> None:
    assert of_record(record(3), case.theirs, now=0) is case.standing


def test_a_record_whose_time_is_over_need_not_be_there() -> None:
    gone = record(3, removed=True, until=100)
    assert of_record(gone, None, now=99) is Standing.MISSING
    assert of_record(gone, None, now=100) is Standing.ENDED


def test_what_is_written_is_taken_by_readers() -> None:
    """Also a registration that began anew, at revision 1, over what it replaced."""
    for ours, theirs in ((record(3), record(2)), (record(1, 9), record(8, 5)), (record(4), None)):
        state = RegistryState()
        if theirs is not None:
            state.apply(0, theirs.key, encode_record(theirs))
        written = succeeding(ours, theirs)
        assert state.apply(1, ours.key, encode_record(written)) is Applied.CURRENT
        held = state.current(ours.key)
        assert held is not None
        assert held == msgspec.structs.replace(ours, revision=held.revision)
        assert of_record(ours, held, now=0) in (Standing.THERE, Standing.NEWER)


def test_a_row_begins_before_everything() -> None:
    ours = begun(row(44, metrics={"bytes_sent": 1}))
    assert (ours.offset, ours.index) == (-1, -1)
    assert ours.metrics == {"bytes_sent": 1}
    assert of_row(ours, None) is Standing.MISSING
    assert of_row(ours, begun(row(3, metrics={"bytes_sent": 1}))) is Standing.THERE
    assert of_row(ours, begun(row(3))) is Standing.OTHER
    assert of_row(ours, row(0)) is Standing.NEWER


def test_a_tally_names_the_first_faults() -> None:
    tally = Tally()
    for standing in Standing:
        tally.add("key", standing)
    assert tally.faults == ["key (missing)", "key (other)"]
    assert not tally.is_good
    for _ in range(100):
        tally.add("key", Standing.OTHER)
    assert len(tally.faults) == 20
    good = Tally()
    for standing in (Standing.THERE, Standing.NEWER, Standing.ENDED):
        good.add("key", standing)
    assert good.is_good
