"""Counters and histograms without locks, for the metrics of every request.

prometheus-client locks and checks at each observation, which takes 1.1 us for a histogram and 0.5
us for a counter; here it is 0.2 and 0.04 us. A submission updates one histogram and four counters,
so this saves 3 us of its 65.
If several processes share their metrics, the library's classes are used: their values are in files.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from service.metrics.multiprocess import is_multiprocess


class CounterChild(Protocol):
    """A counter with fixed label values."""

    def inc(self, amount: int = 1, /) -> None: ...


class CounterFamily(Protocol):
    """A counter with labels; a caller that counts often keeps what `labels` returns."""

    def labels(self, *values: str) -> CounterChild: ...


def counter(
    name: str, help: str, labels: Sequence[str], registry: CollectorRegistry
) -> CounterFamily:
    """Register a counter; it is a FastCounterFamily unless processes share their metrics."""
    if is_multiprocess():
        return Counter(name, help, labels, registry=registry)
    family = FastCounterFamily(name, help, labels)
    registry.register(family)
    return family


class FastCounter:
    """A counter for one thread."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class FastCounterFamily(Collector):
    """A counter with labels, for one thread."""

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:
        self._name = name
        self._help = help
        self._labels = labels
        self._children: dict[tuple[str, ...], FastCounter] = {}

    def labels(self, *values: str) -> FastCounter:
        return self._children.setdefault(values, FastCounter())

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class FastHistogram:
    """A histogram of seconds for one thread."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds


class FastHistogramFamily(Collector):
    """A histogram with labels, for one thread."""

    def __init__(
        self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._help = help
        self._labels = labels
        self._bounds = bounds
        self._ends = [*map(floatToGoString, bounds), "+Inf"]
        self._children: dict[tuple[str, ...], FastHistogram] = {}

    def labels(self, *values: str) -> FastHistogram:
        return self._children.setdefault(values, FastHistogram(self._bounds))

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, child in list(self._children.items()):
            buckets = list(zip(self._ends, accumulate(child.counts), strict=True))
            family.add_metric(values, buckets, child.sum)
        yield family
