"""The fast histogram renders the same output as the library's."""

import hypothesis.strategies as st
from hypothesis import given
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

# without `_created` series, as all services
import service.metrics.exposition
from service.metrics.fast_histogram import FastHistogramFamily

BOUNDS = (0.001, 0.25, 1.0, 10.0)
SECONDS = st.floats(0, 20) | st.sampled_from(BOUNDS)

assert service.metrics.exposition


@given(st.lists(st.tuples(st.sampled_from("ab"), SECONDS)))
def test_the_output_equals_that_of_the_library(observed: list[tuple[str, float]]) -> None:
    ours = FastHistogramFamily("some_seconds", "Some help", ["path", "method"], BOUNDS)
    theirs = Histogram(
        "some_seconds", "Some help", ["path", "method"], buckets=BOUNDS, registry=None
    )
    for path, seconds in observed:
        ours.labels(path, "GET").observe(seconds)
        theirs.labels(path, "GET").observe(seconds)
    left, right = CollectorRegistry(), CollectorRegistry()
    left.register(ours)
    right.register(theirs)
    for generate in (generate_latest, generate_openmetrics):
        assert generate(left) == generate(right)
