"""The chaos model can fail: it finds each kind of violation."""

import pytest

from contract.entity import partition_of
from tests.chaos.model import Outcome, PipelineModel
from tests.chaos.scrape import Ledger, Scrape

KEY = "client:c-1"
PARTITION = partition_of(KEY.encode(), 2)


@pytest.fixture
def model() -> PipelineModel:
    return PipelineModel(partitions=2)


def sent(model: PipelineModel, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        model.settle(KEY, model.send(KEY), outcome)


def scrape(number: int | None, read: int = 0, **counts: int) -> Scrape:
    """Return a scrape with one entity and the ledger of its partition."""
    numbers = {} if number is None else {KEY: number}
    counts = {"applied": read} | counts
    ledgers = {0: Ledger(0), 1: Ledger(1), PARTITION: Ledger(PARTITION, read, **counts)}
    return Scrape(numbers, dict.fromkeys(numbers, 1.0), ledgers)


def compared(model: PipelineModel, *scrapes: Scrape) -> tuple[list[str], list[str]]:
    verdict = model.compare({f"e{n}": each for n, each in enumerate(scrapes)})
    return verdict.lost, verdict.wrong


def test_the_last_acknowledged_number_is_right(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(2, 2), scrape(2, 2)) == ([], [])


@pytest.mark.parametrize("shown", [None, 1])
def test_an_acknowledged_number_that_is_not_shown_is_lost(
    model: PipelineModel, shown: int | None
) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    lost, wrong = compared(model, scrape(shown, 2))
    assert len(lost) == 1
    assert wrong == []


def test_a_submission_with_an_unknown_outcome_may_show_or_not(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.UNKNOWN)
    assert compared(model, scrape(1, 1)) == ([], [])
    assert compared(model, scrape(2, 2)) == ([], [])


def test_an_unknown_outcome_is_resolved_by_a_newer_acknowledgement(model: PipelineModel) -> None:
    sent(model, Outcome.UNKNOWN, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(1, 2))[0] != []
    assert compared(model, scrape(2, 2)) == ([], [])


def test_a_repeated_number_counts_once_for_its_entity_and_twice_for_its_partition(
    model: PipelineModel,
) -> None:
    sent(model, Outcome.UNKNOWN)
    model.settle(KEY, model.send(KEY, repeat=True), Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(1, 1)) == ([], [])
    assert compared(model, scrape(1, 2)) == ([], [])
    assert compared(model, scrape(1, 3))[1] != []


@pytest.mark.parametrize("number", [2, 3])
def test_a_rejected_or_unsent_number_is_wrong(model: PipelineModel, number: int) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.REFUSED)
    assert compared(model, scrape(number, 1))[1] != []
    assert model.see("e", scrape(number, 1), covered={}) != []


def test_a_sample_older_than_an_applied_one_never_shows(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    model.settle(KEY, model.send(KEY, visible=False), Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(1, 2, applied=1, stale=1)) == ([], [])
    assert compared(model, scrape(2, 2))[1] != []


def test_exporters_that_differ_are_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.UNKNOWN)
    assert compared(model, scrape(1, 1), scrape(2, 1))[1] != []
    assert compared(model, scrape(1, 1), scrape(1, 2))[1] != []


def test_a_ledger_with_fewer_than_the_acknowledged_submissions_has_lost_some(
    model: PipelineModel,
) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(2, 1))[0] != []
    assert compared(model, scrape(2, 2, applied=1, late=1))[0] != []


def test_a_ledger_with_more_than_the_sent_submissions_has_counted_twice(
    model: PipelineModel,
) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(1, 2))[1] != []


def test_dead_letters_must_equal_the_bad_frames(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(1, 2, applied=1, dead_lettered=1))[1] != []
    model.bad_frames[PARTITION] += 1
    assert compared(model, scrape(1, 2, applied=1, dead_lettered=1)) == ([], [])
    assert compared(model, scrape(1, 1))[1] != []


def test_unexpected_lost_records_are_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(1, 1, lost=1))[1] != []


def test_a_partition_without_a_ledger_is_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    shown = scrape(1, 1)
    del shown.ledgers[1 - PARTITION]
    assert compared(model, shown)[1] != []


def test_a_series_that_goes_back_is_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    assert model.see("e", scrape(2, 2), covered={}) == []
    assert model.see("another", scrape(1, 1), covered={}) == []
    assert model.see("e", scrape(1, 2), covered={}) != []


def test_a_count_that_goes_back_is_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    assert model.see("e", scrape(2, 2), covered={}) == []
    assert model.see("e", scrape(2, 1), covered={}) != []


def test_a_series_that_disappears_is_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    assert model.see("e", scrape(1, 1), covered={}) == []
    assert model.see("e", scrape(None, 1), covered={}) != []


def test_a_scrape_after_a_receipt_includes_its_submission(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    assert model.see("e", scrape(2, 2), covered={KEY: 2}) == []
    assert model.see("another", scrape(1, 1), covered={KEY: 2}) != []


def test_a_removed_entity_disappears_and_does_not_return(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    assert model.see("e", scrape(1, 1), covered={}) == []
    model.remove(KEY)
    assert model.see("e", scrape(1, 1), covered={}) == []
    assert model.see("e", scrape(None, 2), covered={}) == []
    assert model.see("e", scrape(1, 2), covered={}) != []
    model.removed(KEY)
    assert compared(model, scrape(1, 2))[1] != []
    assert compared(model, scrape(None, 2)) == ([], [])


def test_an_entity_may_be_removed_before_it_has_reported(model: PipelineModel) -> None:
    model.remove(KEY)
    model.removed(KEY)
    assert compared(model, scrape(None, 1)) == ([], [])
    assert compared(model, scrape(None, 0))[0], "the removal was acknowledged"


def test_faults_of_a_scrape_itself_are_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    shown = scrape(1, 1)
    shown.faults.append("two series")
    assert model.see("e", shown, covered={}) != []
    assert compared(model, shown)[1] != []


def test_a_ledger_that_disappears_is_wrong(model: PipelineModel) -> None:
    sent(model, Outcome.ACKNOWLEDGED)
    assert model.see("e", scrape(1, 1), covered={}) == []
    without = scrape(1, 1)
    del without.ledgers[PARTITION]
    assert model.see("e", without, covered={}) != []


def test_submissions_deleted_unread_may_not_show_and_are_counted_as_lost(
    model: PipelineModel,
) -> None:
    sent(model, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    model.delete(PARTITION, KEY, {2, 3}, applied=1)
    model.lost[PARTITION] += 2
    right = scrape(1, 1, lost=2)
    assert compared(model, right, right) == ([], [])
    assert compared(model, scrape(3, 3, lost=2), scrape(3, 3, lost=2))[1]
    assert compared(model, scrape(1, 1), scrape(1, 1))[1]
    assert compared(model, scrape(None, 1, lost=2), scrape(None, 1, lost=2))[0]
    assert model.see("e", scrape(1, 1, lost=2), covered={KEY: 3}) == []
    sent(model, Outcome.ACKNOWLEDGED)
    assert compared(model, scrape(4, 2, lost=2), scrape(4, 2, lost=2)) == ([], [])
    assert model.see("e", scrape(1, 1, lost=2), covered={KEY: 4})
