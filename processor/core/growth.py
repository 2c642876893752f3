"""Growth: what a submission adds to the totals of its entity's group. Pure.

It depends on the row and the submission alone, so that whoever reduces a record again adds the
same. The rules are in docs/metrics.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

from contract.frame import Submission
from contract.kinds import KINDS
from contract.row import EntityRow

MIN_SECONDS = 1.0
"""Two reports count as at least so far apart: several may come in one frame."""

_COUNTERS = {
    name: [(metric.field, metric.max_value) for metric in kind.counters]
    for name, kind in KINDS.items()
}

Number = int | float


class Excess(NamedTuple):
    """A counter that grew faster than it can, by `growth` in `seconds`."""

    field: str
    growth: Number
    seconds: float


Growth = dict[str, Number]
"""Growth above 0 of counters, by field."""
_NONE: tuple[Growth, Sequence[Excess]] = ({}, ())


def growth_of(
    row: EntityRow | None, submission: Submission, appended_ms: int
) -> tuple[Growth, Sequence[Excess]]:
    """Return what a submission that is about to change `row` adds, and what is too much to add.

    A counter that the row lacks adds nothing: from where it grew is not known. One that fell has
    started again at 0.
    """
    counters = _COUNTERS.get(submission.kind)
    if (
        not counters
        or row is None
        or row.removed
        or submission.removed
        or submission.incarnation != row.incarnation
    ):
        return _NONE
    held, sent = row.metrics, submission.metrics
    grown: Growth = {}
    excess: list[Excess] = []
    seconds = 0.0
    for field, most in counters:
        value, before = sent.get(field), held.get(field)
        if value is None or before is None:
            continue
        growth = value - before if value >= before else value
        if growth <= 0:
            continue
        seconds = seconds or _seconds_between(row, submission, appended_ms)
        if growth > most * seconds:
            excess.append(Excess(field, growth, seconds))
        else:
            grown[field] = growth
    return grown, excess


def _seconds_between(row: EntityRow, submission: Submission, appended_ms: int) -> float:
    """Seconds since the report before, by whichever times say more: a backlog comes all at once."""
    appended = (appended_ms - row.last_appended_ms) / 1000
    if submission.timestamp is None:
        return max(appended, MIN_SECONDS)
    return max(appended, submission.timestamp - row.last_check_in, MIN_SECONDS)
