"""Scrapes: one body at a time is made, shared by all that asked before it was begun."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from exporter.body import Body, Steps, make_body, worker


class Moment(NamedTuple):
    """Everything that a scrape shows, as of one moment."""

    sheets: list[Steps]
    rest: bytes
    """What is not of entities, in the format asked for."""


Look = Callable[[bool], Moment]
"""Looks at everything, without an await in between; its argument asks for OpenMetrics."""
OnMade = Callable[[float, Body], None]
"""Told how many seconds a body took to make."""


class Scrapes:
    """Makes the bodies that scrapes are answered with.

    A body of a large fleet is worth some processor time, so two are never made at once; and since
    whoever waits shares the next one, a second Prometheus costs nothing. A body is always younger
    than the scrapes that it answers.
    """

    def __init__(self, look: Look, on_made: OnMade) -> None:
        self._look = look
        self._on_made = on_made
        self._turn = asyncio.Lock()
        self._next: dict[bool, asyncio.Task[Body]] = {}

    async def body(self, *, openmetrics: bool) -> Body:
        """Show everything in one of the two formats."""
        task = self._next.get(openmetrics)
        if task is None:
            task = asyncio.create_task(self._make(openmetrics), name="scrape")
            self._next[openmetrics] = task
        return await asyncio.shield(task)

    async def _make(self, openmetrics: bool) -> Body:
        async with self._turn:
            del self._next[openmetrics]
            started = time.perf_counter()
            sheets, rest = self._look(openmetrics)
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(worker, make_body, sheets, rest)
            self._on_made(time.perf_counter() - started, body)
            return body
