"""Infers a submission's outcome from its frame and its entity's row. Pure."""

from typing import NamedTuple

from contract.frame import Submission
from contract.position import Position


class RowVersion(NamedTuple):
    """The newest submission applied to a row: its position, incarnation, and whether it was a
    removal."""

    position: Position
    incarnation: int
    removed: bool


def infer_outcome(submission: Submission, position: Position, row: RowVersion | None) -> str | None:
    """Return `applied` or `stale` for a processed submission, None if it cannot be inferred.

    The row must include everything that its partition's ledger covers, and the ledger must cover
    `position`. The result follows from the rules of the processor: a row's position is that of the
    newest applied submission, its incarnation never decreases, and a removed row stays removed
    within an incarnation.
    """
    if row is None:
        return None  # expired since, or stale because of a row that has expired
    if position == row.position:
        return "applied"
    if position > row.position:
        return "stale"
    # A newer submission was applied since, so the row that the timestamp was compared with is gone.
    if submission.incarnation != row.incarnation:
        return None
    if submission.removed or (submission.timestamp is None and not row.removed):
        return "applied"
    return None
