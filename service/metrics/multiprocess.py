"""Combines the metrics of several processes with prometheus-client's multiprocess mode.

If PROMETHEUS_MULTIPROC_DIR is set before prometheus-client is imported, each process keeps its
values in files in that folder, and a scrape of any process adds them up. Counters of an ended
process are kept, its gauges are removed (see service.http.prefork).
"""

import asyncio
import os
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def is_multiprocess() -> bool:
    """Return whether this process shares its metrics with other processes."""
    return FOLDER_VARIABLE in os.environ


def scrape_registries(registries: Sequence[CollectorRegistry]) -> Sequence[CollectorRegistry]:
    """Return the registries for a scrape: these, or one that combines all processes."""
    if not is_multiprocess():
        return registries
    combined = CollectorRegistry()
    MultiProcessCollector(combined)  # type: ignore[no-untyped-call]
    return [combined]


class CallbackGauges:
    """Gauges with callbacks, which run at each scrape or, in multiprocess mode, on a timer.

    Each gauge needs a `multiprocess_mode`: `livesum` for a value of one process, `livemax` for a
    value that is the same in all processes.
    """

    interval = 0.25
    """Seconds between updates, which is the maximum age of shared gauges in a scrape."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Gauge, Callable[[], float]]] = []

    def set_function(self, gauge: Gauge, function: Callable[[], float]) -> None:
        if is_multiprocess():
            self._callbacks.append((gauge, function))
        else:
            gauge.set_function(function)

    async def run(self) -> None:
        """Update shared gauges until cancelled."""
        while True:
            for gauge, function in self._callbacks:
                gauge.set(function())
            await asyncio.sleep(self.interval)
