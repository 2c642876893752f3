"""Views: snapshots of the directory that concurrent requests share."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from contract.kinds import HEADEND, replace_refused
from contract.registry import CLUSTER
from contract.registry_state import RegistryState
from exporter.checkins.directory import Directory, Snapshot
from exporter.checkins.listing import Group, Page, View
from exporter.checkins.query import Query
from exporter.checkins.state import group_labels
from exporter.checkins.texts import Texts
from exporter.state.columns import NO_CHECK_IN, REGISTERED, REPORTED
from exporter.thresholds import Thresholds

T = TypeVar("T")

MAX_SHARE = 0.04
"""Share of the time that may be spent on new views: one that took 20 ms is shown for 500 ms. That
of a small fleet is always new."""
KEPT_SECONDS = 60.0
"""Seconds after the last request for which what views are made of is kept."""
MAX_AGE = 4.0
"""Maximum age of a view in seconds."""


@dataclass
class _Shared:
    view: View
    made_at: float
    expires_at: float
    pages: dict[str, Page]
    groups: dict[str, list[Group]]


class Views:
    """Makes views and pages, one at a time, in a thread."""

    def __init__(
        self,
        directory: Directory,
        registered: RegistryState,
        thresholds: Mapping[str, Thresholds],
        as_of: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._registered = registered
        self._thresholds = {**thresholds, CLUSTER: thresholds[HEADEND.name]}
        self._as_of = as_of
        self._shared: dict[str, _Shared] = {}
        self._lock = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "checkins")
        """One thread: whoever is cancelled leaves its work running."""
        self._used_at = 0.0

    async def view(self, kind: str) -> View:
        """Return the current view of a kind."""
        async with self._lock:
            return (await self._current(kind)).view

    async def page(self, query: Query) -> tuple[View, Page]:
        """Return a page, and the view that its indexes refer to."""
        key = f"{query.url(cursor=query.cursor)}"
        async with self._lock:
            shared = await self._current(query.kind)
            if key not in shared.pages:
                shared.pages[key] = await self._timed(shared, lambda: shared.view.page(query))
            return shared.view, shared.pages[key]

    async def groups(self, kind: str, label: str) -> list[Group]:
        """Return the groups of a label."""
        async with self._lock:
            shared = await self._current(kind)
            if label not in shared.groups:
                shared.groups[label] = await self._timed(shared, lambda: shared.view.groups(label))
            return shared.groups[label]

    async def order(self, query: Query) -> tuple[View, list[int]]:
        """Return the indexes of everything that a query selects, in its order."""
        async with self._lock:
            snapshot, as_of = self._snapshot(query.kind, is_full=True), self._as_of()
            return await self._in_thread(lambda: self._ordered(snapshot, as_of, query))

    def _ordered(self, snapshot: Snapshot, as_of: float, query: Query) -> tuple[View, list[int]]:
        view = View(snapshot, self._thresholds[query.kind], as_of)
        return view, view.order(view.select(query), query)

    async def _current(self, kind: str) -> _Shared:
        self._used_at = time.monotonic()
        shared = self._shared.get(kind)
        if shared is not None and time.monotonic() < shared.expires_at:
            return shared
        started = time.monotonic()
        snapshot = self._snapshot(kind)
        as_of = self._as_of()
        view = await self._in_thread(lambda: View(snapshot, self._thresholds[kind], as_of))
        shared = _Shared(view, started, started, {}, {})
        self._extend(shared, time.monotonic() - started)
        self._shared[kind] = shared
        return shared

    async def _timed(self, shared: _Shared, make: Callable[[], T]) -> T:
        started = time.monotonic()
        made = await self._in_thread(make)
        self._extend(shared, time.monotonic() - started)
        return made

    async def _in_thread(self, make: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, make)

    def release_unused(self) -> None:
        """Free the memory that views take, if nobody has looked at any for a while."""
        if self._shared and time.monotonic() - self._used_at > KEPT_SECONDS:
            self._shared.clear()
            for directory in self._directory.kinds.values():
                directory.release()

    def _extend(self, shared: _Shared, seconds: float) -> None:
        """Show a view for longer, as it took this long to make a part of it."""
        if seconds > MAX_AGE * MAX_SHARE / 10:
            wanted = shared.expires_at + seconds / MAX_SHARE
            shared.expires_at = min(wanted, shared.made_at + MAX_AGE)

    def _snapshot(self, kind: str, *, is_full: bool = False) -> Snapshot:
        if kind != CLUSTER:
            directory = self._directory.kinds[kind]
            return directory.full_snapshot() if is_full else directory.snapshot()
        headends = self._directory.kinds[HEADEND.name].snapshot()
        return cluster_snapshot(self._registered, headends)


def cluster_snapshot(registered: RegistryState, headends: Snapshot) -> Snapshot:
    """Return the clusters as a snapshot: the last check-in is that of any headend of a cluster."""
    codes, values = headends.groups[CLUSTER], headends.group_values[CLUSTER]
    newest = np.zeros(len(values))
    np.maximum.at(newest, codes, headends.last)
    last_of = dict(zip(values, newest.tolist(), strict=True))
    records = list(registered.registered(CLUSTER))
    last = np.array([last_of.get(record.id, NO_CHECK_IN) for record in records], np.float64)
    flags = np.where(last > NO_CHECK_IN, REGISTERED | REPORTED, REGISTERED).astype(np.uint8)
    groups, group_values = {}, {}
    for label in group_labels(CLUSTER):
        texts = [
            record.id if label == CLUSTER else record.attributes.get(label, "")
            for record in records
        ]
        known = {text: code for code, text in enumerate(sorted({"", *texts}))}
        groups[label] = np.array([known[text] for text in texts], np.uint16)
        group_values[label] = list(known)
    names = [replace_refused(record.name) for record in records]
    keys: list[bytes | None] = [record.key for record in records]
    return Snapshot(keys, names, last, flags, groups, group_values, Texts(CLUSTER))
