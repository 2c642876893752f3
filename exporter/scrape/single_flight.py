"""Scrapes: one body at a time is made, shared by all that asked before it was begun."""

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
    """Everything that a scrape shows, as of one moment."""

    tables: list[Steps]
    rest: bytes
    """What is not of entities, in the format asked for."""


TakeSnapshot = Callable[[bool], Snapshot]
"""Looks at everything, without an await in between; its argument asks for OpenMetrics."""
OnRendered = Callable[[float, CompressedExposition], None]
"""Told how many seconds a body took to make."""


class ScrapeSingleFlight:
    """Makes the bodies that scrapes are answered with.

    A body of a large fleet is worth some processor time, so two are never made at once; and since
    whoever waits shares the next one, a second Prometheus costs nothing. A body is always younger
    than the scrapes that it answers.
    """

    def __init__(self, take_snapshot: TakeSnapshot, on_rendered: OnRendered) -> None:
        self._take_snapshot = take_snapshot
        self._on_rendered = on_rendered
        self._lock = asyncio.Lock()
        self._next: dict[bool, asyncio.Task[CompressedExposition]] = {}

    async def exposition(self, *, openmetrics: bool) -> CompressedExposition:
        """Show everything in one of the two formats."""
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
