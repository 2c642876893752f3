"""Test helpers: rows, and their exposition by prometheus-client as the reference."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from contract.kinds import KINDS, replace_refused
from contract.row import ROW_VERSION, EntityRow
from exporter.scrape.exposition import render_exposition
from exporter.state.store import StateStore


def make_row(**values: Any) -> EntityRow:
    """Build a row with defaults."""
    plain: dict[str, Any] = {
        "version": ROW_VERSION,
        "offset": 0,
        "index": 0,
        "incarnation": 0,
        "last_appended_ms": 0,
        "last_check_in": 1.5,
    }
    return EntityRow(**(plain | values))


class RowCollector(Collector):
    """Exports rows (by `kind:id`) through prometheus-client."""

    def __init__(self, rows: Mapping[str, EntityRow]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        for kind in KINDS.values():
            for metric in kind.families:
                family = GaugeMetricFamily(metric.name, metric.help, labels=kind.label_names)
                for key, row in self._rows.items():
                    kind_name, _, id = key.partition(":")
                    values = row.metrics | {kind.last_check_in.field: row.last_check_in}
                    if kind_name == kind.name and not row.removed and metric.field in values:
                        labels = [
                            replace_refused(row.labels.get(label.name, "")) for label in kind.labels
                        ]
                        family.add_metric([id, *labels], values[metric.field])
                yield family


def rendered(rows: Mapping[str, EntityRow]) -> tuple[bytes, bytes]:
    """Render rows with prometheus-client: in text format 0.0.4 and in OpenMetrics 1.0."""
    registry = CollectorRegistry()
    registry.register(RowCollector(rows))
    openmetrics: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), openmetrics


def exposition(store: StateStore) -> bytes:
    """Render the current state of the store."""
    return b"".join(render_exposition(store.snapshot(), b"").decompressed())


def in_order(exposition: bytes) -> list[bytes]:
    """Return the lines of an exposition in canonical order, with numbers in canonical form.

    Neither the order within a family nor the notation of a number has a meaning.
    """
    families: list[list[bytes]] = [[]]
    for line in exposition.split(b"\n"):
        if line.startswith(b"# HELP"):
            families.append([])
        series, space, value = line.rpartition(b" ")
        is_sample = space and not line.startswith(b"# ")
        families[-1].append(b"%b %r" % (series, float(value)) if is_sample else line)
    return [
        line
        for lines in families
        for line in sorted(lines, key=lambda line: (not line.startswith(b"# "), line))
    ]
