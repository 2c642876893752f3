"""Checks the totals of `/metrics/fleet`: they never fall, whichever exporter responds. Pure."""

import re
from collections import Counter
from collections.abc import Iterable

from contract.kinds import KINDS
from contract.total import decode_total
from processor.core.partition_state import PartitionState

_TOTAL = re.compile(r"^(tobogganing_fleet_\w+_total\{.*\}) (\S+)$", re.M)

Totals = dict[str, float]
"""By series."""


def parse_totals(text: str) -> Totals:
    return {series: float(value) for series, value in _TOTAL.findall(text)}


def recounted(states: Iterable[PartitionState]) -> Totals:
    """Totals of states that were rebuilt from the topic."""
    found = Counter[str]()
    for state in states:
        for key in state.total_keys:
            row = decode_total(state.rows[key])
            kind = KINDS[row.kind]
            labels = ",".join(
                f'{name}="{value}"'
                for name, value in sorted(zip(kind.group_labels, row.group, strict=True))
            )
            for metric in kind.counters:
                series = f"{metric.fleet_name}_total{{{labels}}}"
                found[series] += row.values.get(metric.field, 0)  # type: ignore[assignment]
    return {series: float(value) for series, value in found.items()}


class FleetTotals:
    """The greatest value that any exporter has shown of each series."""

    def __init__(self) -> None:
        self._seen: Totals = {}

    def begin(self) -> Totals:
        """Return what a scrape that begins now must show at least."""
        return dict(self._seen)

    def see(self, exporter: str, least: Totals, text: str) -> list[str]:
        """Check a scrape; return what is wrong with it. A scrape without totals is a gap."""
        shown = parse_totals(text)
        wrong = [
            f"{exporter}: {series} fell from {least[series]:.0f} to {value:.0f}"
            for series, value in shown.items()
            if value < least.get(series, 0.0)
        ]
        for series, value in shown.items():
            self._seen[series] = max(value, self._seen.get(series, 0.0))
        return wrong


def differences(exporter: str, shown: Totals, expected: Totals) -> list[str]:
    """Compare totals after everything was processed; a missing one counts as 0."""
    return [
        f"{exporter}: {series} is {shown.get(series)}, and {expected.get(series)} by recounting"
        for series in sorted(shown.keys() | expected.keys())
        if shown.get(series, 0.0) != expected.get(series, 0.0)
    ]
