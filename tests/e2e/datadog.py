"""`python -m tests.e2e.datadog URL TOKEN`: Datadog's own OpenMetrics check scrapes once.

It prints, as JSON, the number of samples of each metric, and all their tags. It is a separate
process, because the check modifies prometheus-client's parser when it is imported.
"""

import json
import sys
from typing import Any

from datadog_checks.base import OpenMetricsBaseCheckV2

NAMESPACE = "scraped"


def scrape(url: str, token: str) -> list[tuple[str, float, list[str]]]:
    """Return the gauges that the check submits: name, value and tags.

    Raises:
        AssertionError: the check failed.
    """
    gauges: list[tuple[str, float, list[str]]] = []
    instance = {
        "openmetrics_endpoint": url,
        "namespace": NAMESPACE,
        "metrics": [".+"],
        "headers": {"Authorization": f"Bearer {token}"},
        "max_returned_metrics": 100_000,
    }

    check: Any = OpenMetricsBaseCheckV2("openmetrics", {}, [instance])  # type: ignore[no-untyped-call]
    check.__NAMESPACE__ = NAMESPACE

    def gauge(name: str, value: float, tags: Any = None, **_: Any) -> None:
        gauges.append((name, value, list(tags or ())))

    check.gauge = gauge
    failure = check.run()
    assert not failure, failure
    return gauges


if __name__ == "__main__":
    print(json.dumps(scrape(*sys.argv[1:])))
