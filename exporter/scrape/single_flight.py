"""Single flight: renders one exposition at a time and shares it among the waiting requests."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from exporter.scrape.exposition import (
    CompressedExposition,
    Steps,
    render_executor,
    render_exposition,
)


class Snapshot(NamedTuple):
    """Everything that a scrape exports, at one point in time."""

    tables: list[Steps]
    rest: bytes
    """Metrics other than those of entities, in the requested format."""


TakeSnapshot = Callable[[bool], Snapshot]
"""Takes a snapshot without an await in between; the argument selects OpenMetrics."""
OnRendered = Callable[[float, CompressedExposition], None]
"""Called with the seconds that rendering took."""


class ScrapeSingleFlight:
    """Renders the expositions for scrapes.

    Rendering a large fleet takes CPU time, so only one runs at a time. Waiting requests share the
    next one, so a second Prometheus costs nothing. A snapshot is always taken after the requests
    that get it have arrived.
    """

    def __init__(self, take_snapshot: TakeSnapshot, on_rendered: OnRendered) -> None:
        self._take_snapshot = take_snapshot
        self._on_rendered = on_rendered
        self._lock = asyncio.Lock()
        self._next: dict[bool, asyncio.Task[CompressedExposition]] = {}

    async def exposition(self, *, openmetrics: bool) -> CompressedExposition:
        """Return an exposition in text format 0.0.4 or in OpenMetrics."""
        task = self._next.get(openmetrics)
        if task is None:
            task = asyncio.create_task(self._render(openmetrics), name="scrape")
            self._next[openmetrics] = task
        return await asyncio.shield(task)

    async def _render(self, openmetrics: bool) -> CompressedExposition:
        async with self._lock:
            del self._next[openmetrics]
            started = time.perf_counter()
            tables, rest = self._take_snapshot(openmetrics)
            loop = asyncio.get_running_loop()
            exposition = await loop.run_in_executor(
                render_executor, render_exposition, tables, rest
            )
            self._on_rendered(time.perf_counter() - started, exposition)
            return exposition
