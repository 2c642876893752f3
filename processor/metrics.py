"""The processor's own metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from processor.store import PartitionedStore


class ProcessorMetrics:
    """Families of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str) -> Counter:
            return Counter(f"tobogganing_processor_{name}", help, registry=registry)

        self.registry = registry
        self.frames = counter("frames", "Frames folded, flushed and acknowledged")
        self.foreign_frames = counter(
            "foreign_frames", "Frames dropped because another generation reads them"
        )
        self.dead_letters = counter("dead_letters", "Dead letters written")
        self.swept = counter("swept_entities", "Entities removed after the retention time")
        self.rebalances = counter("rebalances", "Assignments received from the group")
        self.flush_seconds = Histogram(
            "tobogganing_processor_flush_seconds",
            "Time from a batch's first write to its last acknowledgement",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=registry,
        )

    def watch(self, store: PartitionedStore) -> None:
        """Show what the worker holds, as of each scrape."""
        partitions = Gauge(
            "tobogganing_processor_partitions",
            "Partitions owned and loaded",
            registry=self.registry,
        )
        partitions.set_function(lambda: len(store.loaded()))
        rows = Gauge("tobogganing_processor_rows", "Rows held", registry=self.registry)
        rows.set_function(lambda: sum(len(state.rows) for state in store.partitions.values()))
