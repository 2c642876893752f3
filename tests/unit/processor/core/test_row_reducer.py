"""The rules of the row reducer."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contract.frame import Submission
from contract.position import Position
from contract.row import EntityRow
from processor.core.row_reducer import MAX_AHEAD_MS, ReduceOutcome, reduce_row

NOW = 1_700_000_000_000


def submission(**fields: Any) -> Submission:
    defaults: dict[str, Any] = {"kind": "client", "id": "a", "incarnation": 1}
    return Submission(**defaults | fields)


def reduced(*submissions: Submission) -> EntityRow:
    row = None
    for number, each in enumerate(submissions):
        row, _ = reduce_row(row, each, Position(number, 0), NOW + number)
    assert row is not None
    return row


def outcome(row: EntityRow, late: Submission) -> ReduceOutcome:
    after, result = reduce_row(row, late, Position(99, 0), NOW + 99)
    if result is ReduceOutcome.STALE:
        assert after is row
    return result


def test_an_omitted_field_keeps_its_value() -> None:
    row = reduced(submission(metrics={"a": 1, "b": 2}), submission(metrics={"b": 3}))
    assert row.metrics == {"a": 1, "b": 3}


def test_without_a_timestamp_the_check_in_is_the_append_time() -> None:
    assert reduced(submission()).last_check_in == NOW / 1000


def test_with_a_timestamp_the_check_in_is_the_timestamp() -> None:
    assert reduced(submission(timestamp=5.0)).last_check_in == 5.0


def test_an_older_sample_is_stale() -> None:
    row = reduced(submission(timestamp=5.0))
    assert outcome(row, submission(timestamp=4.9, metrics={"a": 1})) is ReduceOutcome.STALE
    assert outcome(row, submission(timestamp=5.0)) is ReduceOutcome.APPLIED


def test_a_submission_without_a_timestamp_is_never_stale() -> None:
    row = reduced(submission(timestamp=NOW / 1000 + 200))
    assert outcome(row, submission(metrics={"a": 1})) is ReduceOutcome.APPLIED


def test_the_last_labels_sent_override_registered_and_default_ones() -> None:
    fallback = {"headless": "false"}
    row = reduced(submission(labels={"name": "x"}, default_labels=fallback))
    assert row.labels == {"name": "x", "headless": "false"}
    row = reduced(submission(labels={"headless": "true"}), submission(default_labels=fallback))
    assert row.labels == {"headless": "true"}


def test_an_older_incarnation_is_stale() -> None:
    assert (
        outcome(reduced(submission(incarnation=7)), submission(incarnation=6))
        is ReduceOutcome.STALE
    )


def test_a_newer_incarnation_starts_with_an_empty_row() -> None:
    row = reduced(submission(metrics={"a": 1}, labels={"name": "old"}), submission(incarnation=2))
    assert row.metrics == {}
    assert row.labels == {}
    assert row.incarnation == 2


def test_only_a_new_registration_recreates_a_removed_entity() -> None:
    row = reduced(submission(metrics={"a": 1}), submission(removed=True))
    assert row.removed
    assert row.metrics == {}
    assert outcome(row, submission(metrics={"a": 2})) is ReduceOutcome.STALE
    assert outcome(row, submission(incarnation=0, removed=True)) is ReduceOutcome.STALE
    revived, result = reduce_row(row, submission(incarnation=2), Position(9, 0), NOW)
    assert result is ReduceOutcome.APPLIED
    assert revived is not None
    assert not revived.removed


def test_the_removal_of_an_unknown_entity_is_stored() -> None:
    row = reduced(submission(removed=True))
    assert outcome(row, submission()) is ReduceOutcome.STALE


some = st.builds(
    Submission,
    kind=st.just("client"),
    id=st.just("a"),
    incarnation=st.integers(1, 3),
    labels=st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2),
    default_labels=st.just({"x": "0"}),
    metrics=st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3),
    timestamp=st.none() | st.floats(0, 2e9),
    removed=st.sampled_from([False, False, False, True]),
)


def test_times_from_a_clock_that_was_ahead_are_corrected() -> None:
    ahead, _ = reduce_row(None, submission(), Position(0, 0), NOW + MAX_AHEAD_MS + 2)
    assert ahead is not None
    for timestamp, expected in ((None, (NOW + 1) / 1000), (NOW / 1000 - 50, NOW / 1000 - 50)):
        after, result = reduce_row(ahead, submission(timestamp=timestamp), Position(1, 0), NOW + 1)
        assert after is not None
        assert result is ReduceOutcome.APPLIED
        assert (after.last_check_in, after.last_appended_ms) == (expected, NOW + 1)


def test_an_old_sample_does_not_replace_values_from_a_clock_that_was_ahead() -> None:
    ahead, _ = reduce_row(None, submission(), Position(0, 0), NOW + 2 * MAX_AHEAD_MS)
    an_hour_old = submission(timestamp=NOW / 1000 - 3600)
    assert reduce_row(ahead, an_hour_old, Position(1, 0), NOW) == (ahead, ReduceOutcome.STALE)


def test_times_ahead_by_less_than_five_minutes_never_go_back() -> None:
    ahead, _ = reduce_row(None, submission(), Position(0, 0), NOW + MAX_AHEAD_MS)
    assert ahead is not None
    after, _ = reduce_row(ahead, submission(), Position(1, 0), NOW)
    assert after is not None
    assert (after.last_check_in, after.last_appended_ms) == (
        ahead.last_check_in,
        ahead.last_appended_ms,
    )
    late = submission(timestamp=NOW / 1000)
    assert reduce_row(ahead, late, Position(1, 0), NOW)[1] is ReduceOutcome.STALE


@given(st.lists(some, min_size=1, max_size=12))
def test_a_row_never_goes_back(submissions: list[Submission]) -> None:
    row: EntityRow | None = None
    for number, each in enumerate(submissions):
        after, _ = reduce_row(row, each, Position(number, 0), NOW + number)
        assert after is not None
        if row is not None:
            assert after.position >= row.position
            assert after.incarnation >= row.incarnation
            if after.incarnation == row.incarnation:
                if row.last_check_in * 1000 <= NOW + number + MAX_AHEAD_MS:
                    assert after.last_check_in >= row.last_check_in
                assert after.last_appended_ms >= row.last_appended_ms
        row = after


@given(st.lists(some, min_size=1, max_size=12), st.data())
def test_a_replay_changes_nothing(submissions: list[Submission], data: st.DataObject) -> None:
    row: EntityRow | None = None
    for number, each in enumerate(submissions):
        row, _ = reduce_row(row, each, Position(number, 0), NOW + number)
    assert row is not None
    start = data.draw(st.integers(0, len(submissions) - 1))
    again: EntityRow | None = row
    for number, each in list(enumerate(submissions))[start:]:
        again, _ = reduce_row(again, each, Position(number, 0), NOW + number)
    assert again == row
