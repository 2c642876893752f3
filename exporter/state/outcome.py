"""What became of a submission, as far as the frame and the row of its entity tell. Pure."""

from typing import NamedTuple

from contract.frame import Submission
from contract.position import Position


class RowVersion(NamedTuple):
    """What a row says of what was applied to it."""

    position: Position
    incarnation: int
    removed: bool


def infer_outcome(submission: Submission, position: Position, row: RowVersion | None) -> str | None:
    """Tell `applied` from `stale` for a submission that was processed; None if that is not known.

    The row must hold all that its partition's ledger covers, and the ledger this position. The
    rest follows from the processor's rules: a row's position is that of the newest submission that
    was applied to it, its generation never goes back, and what was removed stays so for its
    generation.
    """
    if row is None:
        return None  # swept since, or refused by a row that was
    if position == row.position:
        return "applied"
    if position > row.position:
        return "stale"
    # Something newer was applied since. A timestamp was compared with a row that is gone.
    if submission.incarnation != row.incarnation:
        return None
    if submission.removed or (submission.timestamp is None and not row.removed):
        return "applied"
    return None
