"""Metrics that several processes of one service show as one: prometheus-client's multiprocess mode.

Where PROMETHEUS_MULTIPROC_DIR is set, before prometheus-client is imported, each process keeps its
values in files of that folder, and a scrape of any of them adds all up. What a process that ended
has counted stays; its gauges go (service.http.prefork says when).
"""

import asyncio
import os
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def is_multiprocess() -> bool:
    """Tell whether this process is one of several that show their metrics as one."""
    return FOLDER_VARIABLE in os.environ


def scrape_registries(registries: Sequence[CollectorRegistry]) -> Sequence[CollectorRegistry]:
    """What a scrape shows: these registries, or what all processes have in theirs."""
    if not is_multiprocess():
        return registries
    everybody = CollectorRegistry()
    MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
    return [everybody]


class CallbackGauges:
    """Gauges that are functions: asked at a scrape, or, where files hold them, on a timer.

    Each needs a `multiprocess_mode`: `livesum` of what is each process's own, `livemax` of what all
    see the same.
    """

    interval = 0.25
    """Seconds; so old may be what a scrape shows of shared gauges."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Gauge, Callable[[], float]]] = []

    def set_function(self, gauge: Gauge, function: Callable[[], float]) -> None:
        if is_multiprocess():
            self._callbacks.append((gauge, function))
        else:
            gauge.set_function(function)

    async def run(self) -> None:
        """Keep shared gauges current until cancelled."""
        while True:
            for gauge, function in self._callbacks:
                gauge.set(function())
            await asyncio.sleep(self.interval)
