"""Growth: what a submission adds to the totals of its entity's group. Pure.

It depends on the row and the submission alone, so that reducing a record again adds the same. The
rules are in docs/metrics.md.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from contract.frame import Submission
from contract.kinds import KINDS, EntityKind
from contract.row import EntityRow
from contract.total import Group, other_group

MIN_SECONDS = 1.0
"""Minimum time between two reports: several may come in one frame."""
MAX_SECONDS = 1e9
"""Maximum time between two reports. Gateways bound timestamps, foreign producers do not, and an
infinite time would let an infinite growth count."""

MAX_GROUP_CHARACTERS = 1_024
"""Maximum length of all values of a group together."""

Number = int | float
Growth = tuple[Number, ...]
"""Growth of a kind's counters, none below 0, in the order of their declaration."""


RegularGrowth = Callable[[dict[str, Number], dict[str, Number], float], Growth | None]


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
        self._regular_growth = _compile(kind)
        self._maxima = [(metric.field, metric.max_value) for metric in kind.counters]
        self._labels = kind.group_labels
        self._other_group = other_group(kind)
        self._group = _group_getter(kind.group_labels)

    def group_of(self, labels: dict[str, str]) -> Group:
        """Return the group of an entity with these labels.

        Gateways bound labels; longer ones would make a total too large for its record.
        """
        try:
            group = self._group(labels)
        except KeyError:
            group = tuple([labels.get(name, "") for name in self._labels])
        return group if sum(map(len, group)) <= MAX_GROUP_CHARACTERS else self._other_group

    def growth_of(
        self, row: EntityRow, submission: Submission, appended_ms: int
    ) -> tuple[Growth, Sequence[Excess] | None]:
        """Return the growth that counts, and the growth that exceeds a maximum.

        The latter is None if both reports have all counters and none of them fell.
        """
        # Seconds since the previous report: the longer of append and check-in times, as a backlog
        # arrives at once, and a clock may be wrong.
        seconds = (appended_ms - row.last_appended_ms) / 1000
        if submission.timestamp is not None:
            seconds = max(seconds, submission.timestamp - row.last_check_in)
        elif row.last_check_in < row.last_appended_ms / 1000:
            seconds = appended_ms / 1000 - row.last_check_in
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            seconds = MIN_SECONDS if seconds < MIN_SECONDS else MAX_SECONDS
        growth = self._regular_growth(row.metrics, submission.metrics, seconds)
        if growth is not None:
            return growth, None
        return self._irregular_growth(row.metrics, submission.metrics, seconds)

    def _irregular_growth(
        self, before: dict[str, Number], sent: dict[str, Number], seconds: float
    ) -> tuple[Growth, Sequence[Excess] | None]:
        """Return the same for any two reports.

        A counter that is missing in either adds 0. One that fell has started again at 0.
        """
        growth: list[Number] = []
        excess = []
        is_regular = True
        for field, maximum in self._maxima:
            grown: Number = 0
            if field in sent and field in before:
                grown = sent[field] - before[field]
                if grown < 0:
                    is_regular, grown = False, max(sent[field], 0)
            else:
                is_regular = False
            if grown > maximum * seconds:
                excess.append(Excess(field, grown, seconds))
                grown = 0
            growth.append(grown)
        return tuple(growth), None if is_regular and not excess else excess


def _group_getter(names: Sequence[str]) -> Callable[[dict[str, str]], Group]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda labels: tuple([labels[name] for name in names])


def _compile(kind: EntityKind) -> RegularGrowth:
    """Return a function that compares two reports: a loop over the counters takes twice as long.

    It returns None for reports that lack a counter, and for any but moderate growth.
    """
    names = [f"growth_{number}" for number in range(len(kind.counters))]
    slowest = min(metric.max_value for metric in kind.counters)
    lines = ["def regular_growth(before, sent, seconds):", "    try:"]
    for name, metric in zip(names, kind.counters, strict=True):
        lines.append(f"        {name} = sent[{metric.field!r}] - before[{metric.field!r}]")
    are_positive = " and ".join(f"{name} >= 0" for name in names)
    lines += [
        "    except KeyError:",
        "        return None",
        f"    if {are_positive} and {' + '.join(names)} <= {slowest!r} * seconds:",
        f"        return ({', '.join(names)},)",
        "    return None",
    ]
    namespace: dict[str, Any] = {}
    exec("\n".join(lines), namespace)  # of the declaration, nothing else
    found: RegularGrowth = namespace["regular_growth"]
    return found


COUNTERS: Mapping[str, Counters] = {
    name: Counters(kind) for name, kind in KINDS.items() if kind.counters
}
"""By kind, of those that have any."""
