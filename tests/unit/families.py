"""Every family that the code declares, as docs/metrics.md shows it."""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.entity import entity_key
from contract.kinds import CLIENT, HEADEND, KINDS, EntityKind
from contract.ledger import empty_ledger
from contract.registry import CLUSTER, RegistryRecord, encode_record
from contract.registry_state import RegistryState
from contract.row import ROW_VERSION, EntityRow, encode_row
from contract.topics import declare_topics
from exporter.fleet.view import FleetView
from exporter.metrics import (
    ExporterMetrics,
    PipelineCollector,
    RegisteredCollector,
    StateCollector,
)
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from gateway.metrics import GatewayMetrics
from processor.core.partition_state import PartitionState
from processor.membership.heartbeat import HeartbeatMonitor
from processor.metrics import ProcessorMetrics
from processor.table.store import PartitionedStore
from service.config.settings import KafkaSettings, load_settings
from service.kafka.tailer import TopicTailer
from service.metrics.requests import RequestMetrics

Row = tuple[str, str, str, str]
"""Name, type, labels and help text of a family."""


def entity_families(kind: EntityKind) -> list[Row]:
    labels = ", ".join(kind.label_names)
    return [(metric.name, "gauge", labels, metric.help) for metric in kind.families]


def families(*collectors: Collector | CollectorRegistry) -> list[Row]:
    """Families of collectors that have at least one sample of each."""
    return [row(metric) for collector in collectors for metric in collector.collect()]


def row(metric: Metric) -> Row:
    name = metric.name + ("_total" if metric.type == "counter" else "")
    labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
    return name, metric.type, ", ".join(sorted(labels)), metric.documentation


def manager_families() -> list[Row]:
    requests = RequestMetrics(CollectorRegistry())
    requests.count_request("GET", "/", 200, 0.1)
    requests.count_limited("", "unknown")
    gateway = GatewayMetrics()
    gateway.tokens_revoked.labels("node")
    gateway.registrations.labels("native", "success")
    shared = families(requests.registry, gateway.registry)
    counted = [row for row in shared if row[0].startswith("tobogganing_manager_")]
    return families(RegisteredCollector(RegistryState())) + counted


def gateway_families() -> list[Row]:
    metrics = GatewayMetrics()
    for gauge in (metrics.registered, metrics.registered_limit):
        gauge.labels("client")
    for gauge in (metrics.label_values, metrics.label_values_limit):
        gauge.labels("region")
    rows = families(metrics.registry)
    return [row for row in rows if row[0].startswith("tobogganing_gateway_")]


class _Answered(TopicTailer):
    """A tailer after Kafka's first response."""

    def lag(self) -> dict[int, int]:
        return dict.fromkeys(self.partitions, 0)


def exporter_families() -> list[Row]:
    settings = KafkaSettings(kafka_bootstrap_servers="localhost:1")
    topics = declare_topics("", 1)
    state = _Answered(settings, topics.entity_state.name, [0], lambda *_: None)
    registry = TopicTailer(settings, topics.registry.name, [0], lambda *_: None)
    own = ExporterMetrics(CollectorRegistry())
    asked = (state, registry, source_ends())
    return families(own.registry, StateCollector(StateStore([0]), 0, state, asked))


def source_ends() -> SourceLagMonitor:
    """A source lag monitor after Kafka's first response."""
    settings = KafkaSettings(kafka_bootstrap_servers="localhost:1")
    source = SourceLagMonitor(settings, "submissions", {0: empty_ledger()})
    source.update({0: 0})
    return source


def processor_families() -> list[Row]:
    metrics = ProcessorMetrics(CollectorRegistry())
    store = PartitionedStore.__new__(PartitionedStore)
    store.partitions = {0: PartitionState(0)}
    metrics.watch(store, HeartbeatMonitor(1.0), lambda: True, set)
    return families(metrics.registry)


def fleet_families() -> list[Row]:
    """Families of a fleet of one client and one headend, which have sent everything."""
    store, registry = StateStore([0]), RegistryState()
    settings = load_settings(
        ExporterSettings, {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1", "METRICS_TOKEN": "t" * 32}
    )
    state = TopicTailer(settings, "entity-state", [0], lambda *_: None)
    view = FleetView(settings, store, state, source_ends(), registry)
    registry.apply(0, b"cluster:c", encode_record(RegistryRecord(1, CLUSTER, "c", 1, "c", {})))
    for kind in KINDS.values():
        metrics: dict[str, int | float] = {metric.field: 1 for metric in kind.metrics}
        row = EntityRow(ROW_VERSION, 0, 0, 1, 0, time.time(), {}, metrics)
        store.apply(0, entity_key(kind.name, "e"), encode_row(row))
    return families(view.registry)


SECTIONS: dict[str, Callable[[], Iterable[Row]]] = {
    "Clients": lambda: entity_families(CLIENT),
    "Headends": lambda: entity_families(HEADEND),
    "Fleet": fleet_families,
    "Manager": manager_families,
    "Pipeline": lambda: families(
        PipelineCollector({0: empty_ledger()}, source_ends(), 72 * 3600.0)
    ),
    "Gateway": gateway_families,
    "Exporter": exporter_families,
    "Processor": processor_families,
}
"""Heading in docs/metrics.md -> the families of its table."""


def table(rows: Iterable[Row]) -> str:
    lines = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {type} | {labels} | {help} |" for name, type, labels, help in rows]
    return "\n".join(lines)
