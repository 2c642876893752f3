"""The reducer: a row and a submission make the next row."""

from enum import Enum

from contract.frame import Submission
from contract.row import ROW_VERSION, EntityRow

MAX_AHEAD_MS = 300_000
"""How far a row's times may be ahead of an append time, as agents' timestamps may be.

More comes of a clock that was wrong: then the times of the next submission replace them."""


class Outcome(Enum):
    """What the ledger counts a submission as."""

    APPLIED = "applied"
    STALE = "stale"


def reduce(
    row: EntityRow | None, submission: Submission, position: tuple[int, int], appended: int
) -> tuple[EntityRow | None, Outcome]:
    """Fold one submission, found at `position` and appended at `appended` (milliseconds).

    Returns the row as it is from now on (the same object where nothing changed) and the outcome.
    A position that the row already holds is a replay: it was applied, and changes nothing.
    """
    if row is not None:
        if position <= (row.offset, row.index):
            return row, Outcome.APPLIED
        if submission.generation < row.generation:
            return row, Outcome.STALE
        if submission.generation > row.generation:
            row = None
        elif row.removed and not submission.removed:
            return row, Outcome.STALE
    if submission.removed:
        return _removed(row, submission, position, appended), Outcome.APPLIED
    if row is None:
        return _updated(_blank(submission), submission, position, appended), Outcome.APPLIED
    if submission.timestamp is not None and submission.timestamp < _last_check_in(row, appended):
        return row, Outcome.STALE
    return _updated(row, submission, position, appended), Outcome.APPLIED


def _blank(submission: Submission) -> EntityRow:
    return EntityRow(
        version=ROW_VERSION,
        offset=-1,
        index=-1,
        generation=submission.generation,
        heard_at=0,
        last_check_in=0.0,
    )


def _last_check_in(row: EntityRow, appended: int) -> float:
    """The row's last check-in; 0 if it is too far ahead of `appended` to be true."""
    is_true = row.last_check_in * 1000 <= appended + MAX_AHEAD_MS
    return row.last_check_in if is_true else 0.0


def _updated(
    row: EntityRow, submission: Submission, position: tuple[int, int], appended: int
) -> EntityRow:
    checked_in = appended / 1000 if submission.timestamp is None else submission.timestamp
    last = _last_check_in(row, appended)
    return EntityRow(  # by position: this is made for every submission, and names cost 0.4 us
        ROW_VERSION,
        *position,
        row.generation,
        row.heard_at if appended < row.heard_at <= appended + MAX_AHEAD_MS else appended,
        checked_in if checked_in > last else last,
        {**submission.fallback, **row.labels, **submission.labels},
        {**row.metrics, **submission.metrics},
    )


def _removed(
    row: EntityRow | None, submission: Submission, position: tuple[int, int], appended: int
) -> EntityRow:
    return EntityRow(
        version=ROW_VERSION,
        offset=position[0],
        index=position[1],
        generation=submission.generation,
        heard_at=appended,
        last_check_in=0.0 if row is None else row.last_check_in,
        removed=True,
    )
