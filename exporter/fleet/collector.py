"""The families of /metrics/fleet."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from contract.kinds import KINDS, EntityKind, FleetAggregate
from contract.total import Group
from exporter.fleet.gate import TotalsGate
from exporter.fleet.presence import (
    AGE_SECONDS,
    STATES,
    GaugeSummary,
    Presence,
    presence,
)
from exporter.fleet.registered import never_reported
from exporter.state.columns import Columns
from exporter.state.total_table import TotalTable
from exporter.thresholds import Thresholds

NEVER = "never"


class Part(NamedTuple):
    """A metric family of one aggregate of a gauge, such as its minimum."""

    suffix: str
    help: str
    value: Callable[[GaugeSummary], float]


PARTS: dict[FleetAggregate, tuple[Part, ...]] = {
    "sum": (Part("", "sum of those online", lambda each: each.total),),
    "average": (
        Part("_average", "average of those online", lambda each: each.total / each.count),
        Part("_sum", "sum of those online, for the average of several shards", lambda e: e.total),
        Part("_samples", "number of those online that report it", lambda each: each.count),
    ),
    "max": (Part("_max", "largest of those online", lambda each: each.largest),),
}


class FleetCollector(Collector):
    """Totals, presence and gauges of the entities of each group, as of one moment.

    `registered` is None if this exporter does not read the registry. `shows_never`: it has the
    rows of all partitions, so an entity without a row has never reported.
    """

    def __init__(
        self,
        totals: TotalTable,
        columns: Mapping[str, Columns],
        thresholds: Mapping[str, Thresholds],
        gate: TotalsGate,
        registered: Callable[[EntityKind], Counter[Group]] | None,
        *,
        shows_never: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._totals = totals
        self._columns = columns
        self._thresholds = thresholds
        self._gate = gate
        self._registered = registered
        self._shows_never = shows_never
        self._now = now

    def collect(self) -> Iterator[Metric]:
        now = self._now()
        behind = self._gate.partitions_behind()
        yield GaugeMetricFamily(
            "tobogganing_fleet_partitions_behind",
            "Partitions whose totals are less than they were before this exporter's start; while "
            "there are any, no totals are shown",
            behind,
        )
        ages = GaugeHistogramMetricFamily(
            "tobogganing_fleet_check_in_age_seconds",
            "Time since the last check-in of each entity",
            labels=["kind"],
        )
        for kind in KINDS.values():
            found = presence(self._columns[kind.name], now, self._thresholds[kind.name])
            if not behind:
                yield from self._totals_of(kind, found)
            yield from self._presence_of(kind, found)
            bounds = [*map(str, map(float, AGE_SECONDS)), "+Inf"]
            ages.add_metric([kind.name], [*zip(bounds, found.ages, strict=True)], found.age_sum)
        yield ages

    def _totals_of(self, kind: EntityKind, found: Presence) -> Iterator[Metric]:
        totals = {**self._totals.of_groups(kind)}
        for group in found.groups:  # a series that begins at 0 loses nothing of its first growth
            if len(totals) < kind.max_groups:
                totals.setdefault(group, {metric.field: 0 for metric in kind.counters})
        for metric in kind.counters:
            family = CounterMetricFamily(
                metric.fleet_name, f"{metric.help}, all together", labels=kind.group_labels
            )
            for group, values in sorted(totals.items()):
                family.add_metric(group, values[metric.field])
            yield family

    def _presence_of(self, kind: EntityKind, found: Presence) -> Iterator[Metric]:
        yield from self._states_of(kind, found)
        for metric in kind.metrics:
            for part in (part for aggregate in metric.fleet for part in PARTS[aggregate]):
                family = GaugeMetricFamily(
                    metric.fleet_name + part.suffix,
                    f"{metric.help}, {part.help}",
                    labels=kind.group_labels,
                )
                for group, each in sorted(found.groups.items()):
                    summary = each.gauges[metric.field]
                    if summary.count:
                        family.add_metric(group, part.value(summary))
                yield family

    def _states_of(self, kind: EntityKind, found: Presence) -> Iterator[Metric]:
        registered = self._registered(kind) if self._registered else None
        family = GaugeMetricFamily(
            f"tobogganing_fleet_{kind.collection}",
            f"{kind.collection.capitalize()} by the age of their last check-in; never: registered "
            "and without a row",
            labels=[*kind.group_labels, "state"],
        )
        for group, each in sorted(found.groups.items()):
            for state, number in zip(STATES, each.states, strict=True):
                family.add_metric([*group, state], number)
        if registered is not None and self._shows_never:
            for group, number in sorted(never_reported(kind, registered, found).items()):
                family.add_metric([*group, NEVER], number)
        yield family
        if registered is not None:
            family = GaugeMetricFamily(
                f"tobogganing_fleet_registered_{kind.collection}",
                f"Registered {kind.collection}, by the labels that they are registered with",
                labels=kind.group_labels,
            )
            for group, number in sorted(registered.items()):
                family.add_metric(group, number)
            yield family
