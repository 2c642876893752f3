"""Presence: the number of entities online, late and offline, and gauges of those online. Pure.

Everything is as of one moment, from columns.
"""

from dataclasses import dataclass, field

import numpy as np

from contract.total import Group
from exporter.fleet.limit_groups import limit_groups
from exporter.state.columns import Columns, by_code
from exporter.thresholds import Thresholds

STATES = ("online", "late", "offline")
AGE_SECONDS = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 14_400, 43_200, 86_400)
"""Upper bounds of the histogram of ages."""


@dataclass
class GaugeSummary:
    """A gauge of the entities of a group that are online and have sent it."""

    total: float = 0.0
    count: int = 0
    largest: float = float("-inf")

    def add(self, other: "GaugeSummary") -> None:
        self.total += other.total
        self.count += other.count
        self.largest = max(self.largest, other.largest)


@dataclass
class GroupPresence:
    """One group; `states` has a number for each of STATES."""

    states: list[int] = field(default_factory=lambda: [0] * len(STATES))
    gauges: dict[str, GaugeSummary] = field(default_factory=dict)

    def added(self, other: "GroupPresence") -> "GroupPresence":
        """Add another group to this one, and return it."""
        self.states = [a + b for a, b in zip(self.states, other.states, strict=True)]
        for name, summary in other.gauges.items():
            self.gauges.setdefault(name, GaugeSummary()).add(summary)
        return self


@dataclass
class Presence:
    """All groups of a kind. `ages` counts check-ins up to each of AGE_SECONDS, then all."""

    groups: dict[Group, GroupPresence]
    ages: list[int]
    age_sum: float


def presence(columns: Columns, now: float, thresholds: Thresholds) -> Presence:
    """Add up all entities as of `now`, in seconds since the epoch.

    The first `max_groups` groups in the order of their labels are shown; others are added to
    OTHER_GROUP.
    """
    columns.take_over()
    groups = columns.groups.groups
    codes, number = columns.codes, len(groups)
    age = now - columns.last  # NaN without a row: every comparison is false
    np.maximum(age, 0.0, out=age)
    silent, offline = age >= thresholds.online, age >= thresholds.late
    state = silent.astype(np.uint8)
    state += offline
    places = codes.astype(np.int64)
    places *= len(STATES)
    places += state
    states = by_code(places, number * len(STATES)).reshape(number, len(STATES))
    found = {
        group: GroupPresence(each)
        for group, each in zip(groups, states.tolist(), strict=True)
        if any(each)
    }
    _add_gauges(columns, codes, age < thresholds.online, found)
    ages = [int(np.count_nonzero(age <= bound)) for bound in AGE_SECONDS]
    shown = limit_groups(columns.kind, found, GroupPresence.added)
    return Presence(shown, [*ages, int(states.sum())], float(np.nansum(age)))


def _add_gauges(
    columns: Columns,
    codes: "np.ndarray[tuple[int], np.dtype[np.uint16]]",
    online: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    found: dict[Group, GroupPresence],
) -> None:
    groups = columns.groups.groups
    number = len(groups)
    for place, metric in enumerate(columns.gauges):
        values = columns.values(place)
        chosen = online & ~np.isnan(values)
        online_codes, values = codes[chosen], values[chosen]
        totals = by_code(online_codes, number, values)
        counts = by_code(online_codes, number)
        largest = np.full(number, float("-inf"))
        np.maximum.at(largest, online_codes, values)
        for code, group in enumerate(groups):
            if group in found:
                found[group].gauges[metric.field] = GaugeSummary(
                    float(totals[code]), int(counts[code]), float(largest[code])
                )
