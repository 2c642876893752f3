"""The inferred outcome equals the reducer's outcome, or is unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.frame import Submission
from contract.position import Position
from contract.row import EntityRow
from exporter.state.outcome import RowVersion, infer_outcome
from processor.core.row_reducer import reduce_row

submissions = st.builds(
    Submission,
    kind=st.just("client"),
    id=st.just("a"),
    incarnation=st.integers(1, 3),
    timestamp=st.none() | st.integers(0, 20).map(float),
    removed=st.booleans(),
)


@given(st.lists(submissions, min_size=1, max_size=12))
def test_the_inferred_outcome_is_the_actual_one(log: list[Submission]) -> None:
    row: EntityRow | None = None
    outcomes = []
    for offset, submission in enumerate(log):
        row, outcome = reduce_row(row, submission, (offset, 0), appended_ms=offset * 1000)
        outcomes.append(outcome.value)
    held = None if row is None else RowVersion(row.position, row.incarnation, row.removed)
    told = [infer_outcome(each, Position(offset, 0), held) for offset, each in enumerate(log)]
    for number, (said, done) in enumerate(zip(told, outcomes, strict=True)):
        assert said in (None, done), number
    assert told[-1] is not None, "the outcome of the newest submission is always known"


A = Submission("client", "a", 1)


@pytest.mark.parametrize(
    ("submission", "row", "expected"),
    [
        (A, None, None),
        (A, RowVersion(Position(5, 2), 1, False), "applied"),
        (A, RowVersion(Position(5, 1), 1, False), "stale"),
        (A, RowVersion(Position(6, 0), 1, False), "applied"),
        (A, RowVersion(Position(6, 0), 1, True), None),
        (A, RowVersion(Position(6, 0), 2, False), None),
        (Submission("client", "a", 1, timestamp=1.0), RowVersion(Position(6, 0), 1, False), None),
        (
            Submission("client", "a", 1, removed=True),
            RowVersion(Position(6, 0), 1, True),
            "applied",
        ),
    ],
)
def test_outcomes_of_a_submission_at_position_5_2(
    submission: Submission, row: RowVersion | None, expected: str | None
) -> None:
    assert infer_outcome(submission, Position(5, 2), row) == expected
