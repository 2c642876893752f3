"""The fast counter and histogram render the same output as those of prometheus-client."""

import hypothesis.strategies as st
from hypothesis import given
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

# without `_created` series, as all services
import service.metrics.exposition
from service.metrics.fast_metrics import FastCounterFamily, FastHistogramFamily

BOUNDS = (0.001, 0.25, 1.0, 10.0)
SECONDS = st.floats(0, 20) | st.sampled_from(BOUNDS)

assert service.metrics.exposition


@given(st.lists(st.tuples(st.sampled_from("ab"), SECONDS)))
def test_a_histogram_renders_the_output_of_the_library(observed: list[tuple[str, float]]) -> None:
    ours = FastHistogramFamily("some_seconds", "Some help", ["path", "method"], BOUNDS)
    theirs = Histogram(
        "some_seconds", "Some help", ["path", "method"], buckets=BOUNDS, registry=None
    )
    for path, seconds in observed:
        ours.labels(path, "GET").observe(seconds)
        theirs.labels(path, "GET").observe(seconds)
    assert_shown_alike(ours, theirs)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2**40))))
def test_a_counter_renders_the_output_of_the_library(counted: list[tuple[str, int]]) -> None:
    ours = FastCounterFamily("some_requests", "Some help", ["path", "method"])
    theirs = Counter("some_requests", "Some help", ["path", "method"], registry=None)
    for path, amount in counted:
        ours.labels(path, "GET").inc(amount)
        theirs.labels(path, "GET").inc(amount)
    assert_shown_alike(ours, theirs)


def assert_shown_alike(ours: Collector, theirs: Collector) -> None:
    left, right = CollectorRegistry(), CollectorRegistry()
    left.register(ours)
    right.register(theirs)
    for generate in (generate_latest, generate_openmetrics):
        assert generate(left) == generate(right)
