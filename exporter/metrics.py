"""Metric families of the ledgers and the registry, and the exporter's own metrics."""

import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.kinds import CLIENT, KINDS
from contract.ledger import LedgerRow
from contract.registry import CLUSTER
from contract.registry_state import RegistryState
from exporter.scrape.exposition import CompressedExposition
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from service.kafka.tailer import TopicTailer

PIPELINE_FAMILIES = {
    "read": "Submissions read from the partition",
    "applied": "Submissions applied to the state of their entity",
    "stale": "Submissions older than the entity's state, or of a removed entity",
    "late": "Submissions appended by Kafka after their deadline; the response was 503",
    "dead_lettered": "Submissions that could not be processed and are in the dead-letter topic",
    "lost": "Records deleted by Kafka before they were read",
}
"""Field of a ledger row -> help text of its counter."""

SCRAPE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

DELAY_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class PipelineCollector(Collector):
    """Exports the counters of each partition's ledger row."""

    def __init__(
        self, ledgers: Mapping[int, LedgerRow], source: SourceLagMonitor, retention: float
    ) -> None:
        """`retention` is that of submissions, in seconds."""
        self._ledgers = ledgers
        self._source = source
        self._retention = retention

    def collect(self) -> Iterator[Metric]:
        for field, help in PIPELINE_FAMILIES.items():
            family = CounterMetricFamily(
                f"tobogganing_pipeline_{field}", help, labels=["partition"]
            )
            for partition, row in sorted(self._ledgers.items()):
                family.add_metric([str(partition)], getattr(row, field))
            yield family
        lag = GaugeMetricFamily(
            "tobogganing_pipeline_lag_records",
            "Records of the submissions topic that the ledger does not cover yet, as of Kafka's "
            "last response",
            labels=["partition"],
        )
        for partition, records in sorted(self._source.lag().items()):
            lag.add_metric([str(partition)], records)
        yield lag
        behind = GaugeMetricFamily(
            "tobogganing_pipeline_lag_seconds",
            "Age of the newest record that the ledger covers, while others wait; else 0",
            labels=["partition"],
        )
        for partition, seconds in sorted(self._source.lag_seconds(time.time()).items()):
            behind.add_metric([str(partition)], seconds)
        yield behind
        yield GaugeMetricFamily(
            "tobogganing_pipeline_retention_seconds",
            "Time after which Kafka may delete a submission, read or not "
            "(SUBMISSIONS_RETENTION_HOURS)",
            value=self._retention,
        )
        histories = CounterMetricFamily(
            "tobogganing_pipeline_histories",
            "Times that the submissions topic lost its end or was recreated",
            labels=["partition"],
        )
        for partition, row in sorted(self._ledgers.items()):
            histories.add_metric([str(partition)], row.parted)
        yield histories
        missing = GaugeMetricFamily(
            "tobogganing_pipeline_missing_records",
            "Records covered by the ledger beyond the end of the submissions topic, which lost its "
            "end; as of Kafka's last response",
            labels=["partition"],
        )
        for partition, records in sorted(self._source.missing().items()):
            missing.add_metric([str(partition)], records)
        yield missing


class RegisteredCollector(Collector):
    """Exports the numbers of registered clients and clusters."""

    def __init__(self, registered: RegistryState) -> None:
        self._registered = registered

    def collect(self) -> Iterator[Metric]:
        # The metrics guide names these two gauges _total.
        yield GaugeMetricFamily(
            "tobogganing_manager_clusters_total",
            "Total registered clusters",
            self._registered.count(CLUSTER),
        )
        yield GaugeMetricFamily(
            "tobogganing_manager_clients_total",
            "Total registered clients",
            self._registered.count(CLIENT.name),
        )
        by_type = GaugeMetricFamily(
            "tobogganing_manager_clients_by_type", "Registered clients by type", labels=["type"]
        )
        for type in CLIENT.types:
            by_type.add_metric([type], self._registered.count_clients(type))
        yield by_type


class StateCollector(Collector):
    """Exports the size of the state and its lag."""

    def __init__(
        self,
        store: StateStore,
        max_series: int,
        state: TopicTailer,
        sources: Iterable[TopicTailer | SourceLagMonitor],
    ) -> None:
        self._store = store
        self._max_series = max_series
        self._state = state
        self._sources = tuple(sources)

    def collect(self) -> Iterator[Metric]:
        entities = GaugeMetricFamily(
            "tobogganing_exporter_entities", "Entities with series on /metrics", labels=["kind"]
        )
        for kind in KINDS:
            entities.add_metric([kind], self._store.entities(kind))
        yield entities
        yield GaugeMetricFamily(
            "tobogganing_exporter_series",
            "Series of clients and headends on /metrics",
            self._store.series(),
        )
        yield GaugeMetricFamily(
            "tobogganing_exporter_series_limit",
            "Maximum number of series on /metrics; 0: no limit",
            self._max_series,
        )
        yield GaugeMetricFamily(
            "tobogganing_exporter_unreadable_entities",
            "Entities and ledgers whose newest row cannot be decoded; the previous row is exported",
            len(self._store.unreadable),
        )
        lag = GaugeMetricFamily(
            "tobogganing_exporter_lag_records",
            "Records of the entity-state topic not read yet, as of Kafka's last response",
            labels=["partition"],
        )
        for partition, records in sorted(self._state.lag().items()):
            lag.add_metric([str(partition)], records)
        yield lag
        contact = GaugeMetricFamily(
            "tobogganing_exporter_last_contact_seconds",
            "Time since Kafka last reported the end of the topic",
            labels=["topic"],
        )
        for source in self._sources:
            contact.add_metric([source.topic], source.seconds_since_response())
        yield contact


class ExporterMetrics:
    """The exporter's own metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.rows_applied = Counter(
            "tobogganing_exporter_rows_applied",
            "Records of the entity-state topic that changed the state",
            registry=registry,
        )
        self.rows_superseded = Counter(
            "tobogganing_exporter_rows_superseded",
            "Records of the entity-state topic older than the state",
            registry=registry,
        )
        self.unreadable_rows = Counter(
            "tobogganing_exporter_unreadable_rows",
            "Records of the entity-state topic that could not be decoded",
            registry=registry,
        )
        self.row_delay = Histogram(
            "tobogganing_exporter_row_delay_seconds",
            "Time from Kafka's append of the oldest row of a fetch until the row is exported, by "
            "this machine's clock, once caught up",
            buckets=DELAY_SECONDS,
            registry=registry,
        )
        self.scrape_duration = Histogram(
            "tobogganing_exporter_scrape_duration_seconds",
            "Time to render and compress a scrape, without sending it",
            buckets=SCRAPE_SECONDS,
            registry=registry,
        )
        self.scrape_size = Gauge(
            "tobogganing_exporter_scrape_size_bytes",
            "Size of the last scrape before compression",
            registry=registry,
        )
        self.scrapes_cut_off = Counter(
            "tobogganing_exporter_scrapes_cut_off",
            "Scrapes cut off because the client read too slowly",
            registry=registry,
        )

        self.scrapes_refused = Counter(
            "tobogganing_exporter_scrapes_refused",
            "Scrapes rejected because there are more series than MAX_SERIES",
            registry=registry,
        )

    def observe_scrape(self, seconds: float, exposition: CompressedExposition) -> None:
        self.scrape_duration.observe(seconds)
        self.scrape_size.set(exposition.size)
