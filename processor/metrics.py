"""The processor's own metrics."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.anomaly import Reason
from contract.kinds import KINDS
from processor.core.partition_state import PartitionState
from processor.membership.heartbeat import HeartbeatMonitor
from service.evidence import EvidenceMetrics

SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
FRAMES_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200)
SUBMISSIONS_BUCKETS = (
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    50_000,
    100_000,
)


class LoadedPartitions(Protocol):
    """The partitions of this worker, as the metrics need them."""

    @property
    def partitions(self) -> Mapping[int, PartitionState]: ...

    def loaded(self) -> Collection[int]: ...


class ProcessorMetrics:
    """The metric families of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str) -> Counter:
            return Counter(f"tobogganing_processor_{name}", help, registry=registry)

        def histogram(name: str, help: str, buckets: Sequence[float]) -> Histogram:
            name = f"tobogganing_processor_{name}"
            return Histogram(name, help, buckets=buckets, registry=registry)

        self.registry = registry
        self.frames = counter("frames", "Frames reduced, flushed and acknowledged")
        self.foreign_frames = counter(
            "foreign_frames", "Frames of an older group generation, which were dropped"
        )
        self.dead_letters = counter("dead_letters", "Dead letters written")
        self.evidence = EvidenceMetrics("processor", registry)
        self.expired_rows = counter("swept_entities", "Entities removed after the retention time")
        self.histories = counter(
            "histories",
            "Histories started because the submissions topic lost its end or was recreated",
        )
        self.rebalances = counter("rebalances", "Assignments received from the group")
        self.group_error_retries = counter(
            "group_error_retries", "Errors of the group coordinator that were retried"
        )
        self._anomalies = Counter(
            "tobogganing_processor_anomalies",
            "Anomalous submissions, by reason",
            ["kind", "reason"],
            registry=registry,
        )
        for kind in KINDS:
            for reason in Reason:
                self._anomalies.labels(kind, reason.value)
        self.dropped_anomalies = counter(
            "dropped_anomalies", "Anomalies counted but not written to the anomalies topic"
        )
        self.batch_frames = histogram("batch_frames", "Frames in a batch", FRAMES_BUCKETS)
        self.batch_submissions = histogram(
            "batch_submissions", "Submissions in a batch", SUBMISSIONS_BUCKETS
        )
        self.queue_seconds = histogram(
            "queue_seconds",
            "Time from Kafka's append of a batch's oldest frame to the start of the batch, by this "
            "machine's clock",
            SECONDS_BUCKETS,
        )
        self.reduce_seconds = histogram("fold_seconds", "Time to reduce a batch", SECONDS_BUCKETS)
        self.flush_seconds = histogram(
            "flush_seconds",
            "Time from a batch's first write to its last acknowledgement",
            SECONDS_BUCKETS,
        )
        self.load_seconds = Gauge(
            "tobogganing_processor_load_seconds",
            "Time to load the state after the last assignment",
            registry=registry,
        )

    def count_anomalies(self, noticed: Mapping[tuple[str, Reason], int]) -> None:
        for (kind, reason), number in noticed.items():
            self._anomalies.labels(kind, reason.value).inc(number)

    def watch(
        self,
        store: LoadedPartitions,
        heartbeat: HeartbeatMonitor,
        is_settled: Callable[[], bool],
        stopped: Callable[[], Collection[int]],
    ) -> None:
        """Register gauges of the worker's state and of its group membership, read at
        each scrape."""

        def gauge(name: str, help: str, value: Callable[[], float]) -> None:
            gauge = Gauge(f"tobogganing_processor_{name}", help, registry=self.registry)
            gauge.set_function(value)

        gauge("partitions", "Partitions owned and loaded", lambda: len(store.loaded()))
        gauge(
            "rows",
            "Rows in memory",
            lambda: sum(len(state.rows) for state in store.partitions.values()),
        )
        gauge(
            "settled",
            "1 while the worker is a member of its group and has loaded its state",
            is_settled,
        )
        gauge(
            "heartbeat_age_seconds",
            "Time since the last heartbeat that the group coordinator confirmed",
            heartbeat.age,
        )
        gauge(
            "unreadable_rows",
            "Rows in memory that cannot be decoded, as of the last expiry run",
            lambda: sum(state.unreadable for state in store.partitions.values()),
        )
        self.registry.register(PausedCollector(store, stopped))


class PausedCollector(Collector):
    """Exports which partitions of this worker are stopped, and why."""

    def __init__(self, store: LoadedPartitions, stopped: Callable[[], Collection[int]]) -> None:
        self._store = store
        self._stopped = stopped

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "tobogganing_processor_partition_stopped",
            "1 while a partition of this worker is stopped, by reason",
            labels=["partition", "reason"],
        )
        stopped = self._stopped()
        for partition, state in sorted(self._store.partitions.items()):
            family.add_metric([str(partition), "dead_letters"], partition in stopped)
            family.add_metric([str(partition), "ledger"], state.ledger_error is not None)
            family.add_metric([str(partition), "source"], state.source_fault is not None)
        yield family
