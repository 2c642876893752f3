"""Parsing a scrape, and finding its inconsistencies."""

import pytest

from contract.kinds import CLIENT, HEADEND
from tests.chaos.scrape import Ledger, parse

LABELS = 'client_id="c-1",name="A",type="native",headless="false"'


def entity(number: int, labels: str = LABELS) -> list[str]:
    lines = [f"{metric.name}{{{labels}}} {number}.0" for metric in CLIENT.metrics]
    return [*lines, f"{CLIENT.last_check_in.name}{{{labels}}} 1700000000.5"]


def pipeline(read: int, applied: int) -> list[str]:
    counts = {"read": read, "applied": applied, "stale": 0, "late": 0}
    counts |= {"dead_lettered": 0, "lost": 0}
    lines = [f'tobogganing_pipeline_{k}_total{{partition="3"}} {n}.0' for k, n in counts.items()]
    return [*lines, 'tobogganing_pipeline_lag_records{partition="3"} 7.0']


def test_numbers_check_ins_and_ledgers_are_parsed() -> None:
    found = parse("\n".join([*entity(7), *pipeline(5, 5)]))
    assert found.faults == []
    assert found.numbers == {"client:c-1": 7}
    assert found.check_ins == {"client:c-1": 1700000000.5}
    assert found.ledgers == {3: Ledger(3, read=5, applied=5)}


def test_a_headend_is_parsed() -> None:
    labels = 'headend_id="h-1",name="{odd}",region="eu",datacenter="f"'
    lines = [f"{metric.name}{{{labels}}} 3" for metric in HEADEND.families]
    found = parse("\n".join(lines))
    assert found.faults == []
    assert found.numbers == {"headend:h-1": 3}


def test_two_series_of_one_entity_are_a_fault() -> None:
    other = LABELS.replace("false", "true")
    assert parse("\n".join([*entity(7), *entity(7, other)])).faults != []


def test_a_missing_series_is_a_fault() -> None:
    assert parse("\n".join(entity(7)[1:])).faults != []


def test_series_of_different_submissions_are_a_fault() -> None:
    assert parse("\n".join([*entity(7)[:2], *entity(8)[2:]])).faults != []


def test_a_ledger_that_does_not_balance_is_a_fault() -> None:
    assert parse("\n".join(pipeline(5, 4))).faults != []


@pytest.mark.parametrize("left_out", range(6))
def test_a_ledger_without_one_of_its_families_is_a_fault(left_out: int) -> None:
    lines = pipeline(0, 0)
    del lines[left_out]
    assert parse("\n".join(lines)).faults != []
