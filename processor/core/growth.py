"""Growth: what a submission adds to the totals of its entity's group. Pure.

It depends on the row and the submission alone, so that reducing a record again adds the same. The
rules are in docs/metrics.md.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from contract.frame import Submission
from contract.kinds import KINDS, EntityKind
from contract.row import EntityRow
from contract.total import Group

MIN_SECONDS = 1.0
"""Minimum time between two reports: several may come in one frame."""

Number = int | float
Growth = tuple[Number, ...]
"""Growth of a kind's counters, none below 0, in the order of their declaration."""


class Excess(NamedTuple):
    """A counter that grew faster than its declared maximum, by `growth` in `seconds`."""

    field: str
    growth: Number
    seconds: float

    @property
    def detail(self) -> str:
        return f"{self.field} grew by {self.growth:g} in {self.seconds:g} s"


class Counters:
    """The counters of a kind, and the groups in which they are totalled."""

    def __init__(self, kind: EntityKind) -> None:
        self.fields = tuple(metric.field for metric in kind.counters)
        self._maxima = [(metric.field, metric.max_value) for metric in kind.counters]
        self._labels = kind.group_labels
        self._group = itemgetter(*kind.group_labels)

    def group_of(self, labels: dict[str, str]) -> Group:
        """Return the group of an entity with these labels."""
        try:
            group = self._group(labels)
        except KeyError:
            return tuple([labels.get(name, "") for name in self._labels])
        return group if len(self._labels) > 1 else (group,)

    def growth_of(
        self, row: EntityRow, submission: Submission, appended_ms: int
    ) -> tuple[Growth, Sequence[Excess] | None]:
        """Return the growth that counts, and what is too much to count.

        The latter is None if both reports have all counters and none of them fell.
        """
        before, sent = row.metrics, submission.metrics
        seconds = _seconds_between(row, submission, appended_ms)
        growth = []
        try:
            for field, maximum in self._maxima:
                grown = sent[field] - before[field]
                if not 0 <= grown <= maximum * seconds:
                    break
                growth.append(grown)
            else:
                return tuple(growth), None
        except KeyError:
            pass
        return self._irregular_growth(before, sent, seconds)

    def _irregular_growth(
        self, before: dict[str, Number], sent: dict[str, Number], seconds: float
    ) -> tuple[Growth, Sequence[Excess]]:
        """Return the same for any two reports.

        A counter that is missing in either adds 0. One that fell has started again at 0.
        """
        growth: list[Number] = []
        excess = []
        for field, maximum in self._maxima:
            grown: Number = 0
            if field in sent and field in before:
                grown = sent[field] - before[field]
                grown = max(grown if grown >= 0 else sent[field], 0)
            if grown > maximum * seconds:
                excess.append(Excess(field, grown, seconds))
                grown = 0
            growth.append(grown)
        return tuple(growth), excess


COUNTERS: Mapping[str, Counters] = {
    name: Counters(kind) for name, kind in KINDS.items() if kind.counters
}
"""By kind, of those that have any."""


def _seconds_between(row: EntityRow, submission: Submission, appended_ms: int) -> float:
    """Return the seconds since the previous report: the longer of check-in and append times.

    A backlog arrives at once, and a clock may be wrong.
    """
    seconds = (appended_ms - row.last_appended_ms) / 1000
    time = appended_ms / 1000 if submission.timestamp is None else submission.timestamp
    if time - row.last_check_in > seconds:
        seconds = time - row.last_check_in
    return seconds if seconds > MIN_SECONDS else MIN_SECONDS
