"""Scrapes: one rendering at a time, shared by all that asked before it began."""

import asyncio
from collections.abc import Callable

from service.exposition import Wanted, pack_large

Render = Callable[[Wanted], bytes]
"""Renders everything as of this moment, without the end mark."""


class Scrapes:
    """Makes the answers to scrapes.

    The body of a large fleet is some 100 MB, so two are never made at once; and since whoever
    waits shares the next one, a second Prometheus costs nothing. A body is always younger than the
    scrapes that it answers.
    """

    def __init__(self, render: Render) -> None:
        self._render = render
        self._turn = asyncio.Lock()
        self._next: dict[Wanted, asyncio.Task[bytes]] = {}

    async def body(self, wanted: Wanted) -> bytes:
        """Render and pack what was asked for."""
        task = self._next.get(wanted)
        if task is None:
            task = self._next[wanted] = asyncio.create_task(self._make(wanted), name="scrape")
        return await asyncio.shield(task)

    async def _make(self, wanted: Wanted) -> bytes:
        async with self._turn:
            del self._next[wanted]
            return await pack_large(wanted, self._render(wanted))
