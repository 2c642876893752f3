"""Metrics: the families from ledger and registry, and the exporter's own."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.kinds import CLIENT, KINDS
from contract.registry import CLUSTER, RegistryState
from contract.row import LedgerRow
from exporter.scrape.exposition import CompressedExposition
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from service.kafka.tailer import TopicTailer

PIPELINE_FAMILIES = {
    "read": "Submissions read from the partition",
    "applied": "Submissions applied to the state of their entity",
    "stale": "Submissions older than what was held, or of a removed entity",
    "late": "Submissions that Kafka appended after their deadline, and that were answered 503",
    "dead_lettered": "Submissions that could not be processed and are in the dead-letter topic",
    "lost": "Records that Kafka dropped before they were read",
}
"""Field of a ledger row -> help text of its counter."""

SCRAPE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

DELAY_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class PipelineCollector(Collector):
    """What became of each partition's submissions, as its ledger row says."""

    def __init__(self, ledgers: Mapping[int, LedgerRow], source: SourceLagMonitor) -> None:
        self._ledgers = ledgers
        self._source = source

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
            "last answer",
            labels=["partition"],
        )
        for partition, records in sorted(self._source.lag(self._ledgers).items()):
            lag.add_metric([str(partition)], records)
        yield lag
        histories = CounterMetricFamily(
            "tobogganing_pipeline_histories",
            "Times that the submissions topic went back: it lost its end, or was recreated",
            labels=["partition"],
        )
        for partition, row in sorted(self._ledgers.items()):
            histories.add_metric([str(partition)], row.parted)
        yield histories
        missing = GaugeMetricFamily(
            "tobogganing_pipeline_missing_records",
            "Records that the ledger covers after the end of the submissions topic, which went "
            "back; as of Kafka's last answer",
            labels=["partition"],
        )
        for partition, records in sorted(self._source.missing().items()):
            missing.add_metric([str(partition)], records)
        yield missing


class RegisteredCollector(Collector):
    """How many clients and clusters are registered."""

    def __init__(self, registered: RegistryState) -> None:
        self._registered = registered

    def collect(self) -> Iterator[Metric]:
        # The guide calls these two gauges _total.
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
    """What is shown, and how far behind Kafka it is."""

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
            "tobogganing_exporter_entities", "Entities that are shown", labels=["kind"]
        )
        for kind in KINDS:
            entities.add_metric([kind], self._store.entities(kind))
        yield entities
        yield GaugeMetricFamily(
            "tobogganing_exporter_series",
            "Series of clients and headends that /metrics shows now",
            self._store.series(),
        )
        yield GaugeMetricFamily(
            "tobogganing_exporter_series_limit",
            "Series beyond which /metrics is refused; 0: none",
            self._max_series,
        )
        yield GaugeMetricFamily(
            "tobogganing_exporter_unreadable_entities",
            "Entities, or ledgers, whose newest row cannot be read: older ones are shown",
            len(self._store.unreadable),
        )
        lag = GaugeMetricFamily(
            "tobogganing_exporter_lag_records",
            "Records of the entity-state topic still to be read, as of Kafka's last answer",
            labels=["partition"],
        )
        for partition, records in sorted(self._state.lag().items()):
            lag.add_metric([str(partition)], records)
        yield lag
        contact = GaugeMetricFamily(
            "tobogganing_exporter_last_contact_seconds",
            "Time since Kafka last said where the topic ends",
            labels=["topic"],
        )
        for asked in self._sources:
            contact.add_metric([asked.topic], asked.seconds_since_response())
        yield contact


class ExporterMetrics:
    """The exporter's own counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.rows_applied = Counter(
            "tobogganing_exporter_rows_applied",
            "Records of the entity-state topic that changed what is shown",
            registry=registry,
        )
        self.rows_superseded = Counter(
            "tobogganing_exporter_rows_superseded",
            "Records of the entity-state topic that are older than what is held",
            registry=registry,
        )
        self.unreadable_rows = Counter(
            "tobogganing_exporter_unreadable_rows",
            "Records of the entity-state topic that could not be read",
            registry=registry,
        )
        self.row_delay = Histogram(
            "tobogganing_exporter_row_delay_seconds",
            "Time from Kafka's append of the oldest row of a read to its being shown, by this "
            "machine's clock, once caught up",
            buckets=DELAY_SECONDS,
            registry=registry,
        )
        self.scrape_duration = Histogram(
            "tobogganing_exporter_scrape_duration_seconds",
            "Time to make what /metrics shows: to render and compress it, without sending it",
            buckets=SCRAPE_SECONDS,
            registry=registry,
        )
        self.scrape_size = Gauge(
            "tobogganing_exporter_scrape_size_bytes",
            "Size of what /metrics showed last, before compression",
            registry=registry,
        )
        self.scrapes_cut_off = Counter(
            "tobogganing_exporter_scrapes_cut_off",
            "Scrapes whose answer was cut off because it was read too slowly",
            registry=registry,
        )

        self.scrapes_refused = Counter(
            "tobogganing_exporter_scrapes_refused",
            "Scrapes that were refused because there are more series than MAX_SERIES",
            registry=registry,
        )

    def observe_scrape(self, seconds: float, exposition: CompressedExposition) -> None:
        """Count what a scrape took."""
        self.scrape_duration.observe(seconds)
        self.scrape_size.set(exposition.size)
