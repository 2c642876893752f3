"""Counts, filters, sorts and pages a snapshot of the directory. Pure; runs in a thread."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.kinds import is_id
from exporter.checkins.directory import Snapshot
from exporter.checkins.query import Cursor, Query
from exporter.checkins.state import LATE, NEVER, OFFLINE, ONLINE, STATES
from exporter.checkins.texts import (
    TextColumn,
    Texts,
    first_slots,
    folded,
    slots_after,
    slots_with_prefix,
)
from exporter.state.columns import ANOMALOUS, SEEN
from exporter.thresholds import Thresholds

Indexes = NDArray[np.intp]
_RANK = 1e12
"""More than any check-in's time in seconds, so that the state decides the order."""


class Group(NamedTuple):
    """The entities with one value of a label: how many in each state, and the newest check-in of
    those that are silent."""

    label: str
    value: str
    counts: tuple[int, ...]
    silent_since: float | None

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def silent(self) -> int:
        return self.counts[OFFLINE] + self.counts[LATE]


@dataclass
class Page:
    """One page of a list: indexes into the snapshot; `next` is None on the last page.

    `html` is what exporter.checkins.pages has rendered for all who look at it.
    """

    indexes: list[int]
    total: int
    next: Cursor | None
    html: str | None = None


class View:
    """A snapshot at one time: `states` has the code of each entity, -1 in unused slots."""

    def __init__(self, snapshot: Snapshot, thresholds: Thresholds, as_of: float) -> None:
        self.snapshot = snapshot
        self.thresholds = thresholds
        self.as_of = as_of
        last, flags = snapshot.last, snapshot.flags
        states = np.full(len(last), OFFLINE, np.int8)
        # As exporter.checkins.state.state_of, which is tested to agree.
        age = as_of - last
        np.putmask(states, age < thresholds.late, LATE)
        np.putmask(states, age < thresholds.online, ONLINE)
        np.putmask(states, (flags & SEEN) == 0, NEVER)
        np.putmask(states, flags == 0, -1)
        self.states = states

    @property
    def _texts(self) -> Texts:
        """Names and ids, as they are now: those of entities that are newer than the view, too."""
        texts = self.snapshot.texts
        texts.update(self.snapshot.keys, self.snapshot.names)
        return texts

    def counts(self) -> tuple[int, ...]:
        """Return the number of entities in each state."""
        return tuple(int(np.count_nonzero(self.states == code)) for code in range(len(STATES)))

    def anomalous(self) -> int:
        """Return the number of entities that had an anomaly of late."""
        return int(np.count_nonzero(self.snapshot.flags & ANOMALOUS))

    def count(self, label: str, value: str) -> int:
        """Return the number of entities with a label's value."""
        values = self.snapshot.group_values[label]
        if value not in values:
            return 0
        codes = self.snapshot.groups[label]
        return int(np.count_nonzero((codes == values.index(value)) & (self.states >= 0)))

    def groups(self, label: str) -> list[Group]:
        """Return the groups of a label, those with the most silent entities first."""
        codes, values = self.snapshot.groups[label], self.snapshot.group_values[label]
        width = len(STATES) + 1
        counted = np.bincount(
            codes.astype(np.int64) * width + self.states + 1, minlength=len(values) * width
        ).reshape(-1, width)[:, 1:]
        newest = np.zeros(len(values))
        silent = np.flatnonzero((self.states == OFFLINE) | (self.states == LATE))
        np.maximum.at(newest, codes[silent], self.snapshot.last[silent])
        groups = [
            Group(label, value, tuple(map(int, counts)), float(since) or None)
            for value, counts, since in zip(values, counted, newest, strict=True)
            if counts.any()
        ]
        return sorted(groups, key=lambda group: (-group.silent, group.value))

    def page(self, query: Query) -> Page:
        """Return the page of a query."""
        found = self.select(query)
        if query.sort in ("name", "id"):
            return self._page_by_text(found, query)
        return self._page_by_number(found, query)

    def select(self, query: Query) -> Indexes:
        """Return the indexes of all entities that a query's filters and search select."""
        mask = self.states >= 0
        if query.states:
            is_wanted = np.zeros(len(STATES) + 1, bool)  # its end is for unused slots
            is_wanted[list(query.states)] = True
            mask = is_wanted[self.states]
        if query.anomalous:
            mask &= self.snapshot.flags & ANOMALOUS != 0
        for label, value in query.groups.items():
            values = self.snapshot.group_values[label]
            code = values.index(value) if value in values else -1
            mask &= self.snapshot.groups[label] == code
        found: Indexes = np.flatnonzero(mask)
        return self._search(found, query) if query.search else found

    def order(self, found: Indexes, query: Query) -> list[int]:
        """Return all indexes in a query's order."""
        keys = self.snapshot.keys
        if query.sort in ("name", "id"):
            known = [i for i in found.tolist() if keys[i] is not None]
            return first_slots(
                self._columns(query),
                np.array(known, np.intp),
                len(known),
                descending=query.descending,
            )
        numbers = self._numbers(query)
        by_id = sorted(found.tolist(), key=lambda i: keys[i] or b"")
        indexes = np.array(by_id, np.intp)
        return indexes[np.argsort(numbers[indexes], kind="stable")].tolist()  # type: ignore[no-any-return]

    def _search(self, found: Indexes, query: Query) -> Indexes:
        """Search names, in any case, and the beginnings of ids."""
        texts = self._texts
        mask = np.zeros(len(self.states), bool)
        named = texts.names.find(folded(query.search))
        mask[named[named < len(mask)]] = True
        if is_id(query.search):
            mask[slots_with_prefix(texts.ids, found, query.search.encode())] = True
        return found[mask[found]]

    def _columns(self, query: Query) -> list[TextColumn]:
        """Return what a query sorts by, if that is a text."""
        texts = self._texts
        return [texts.names, texts.ids] if query.sort == "name" else [texts.ids]

    def _numbers(self, query: Query) -> NDArray[np.float64]:
        """Return the sort key of each entity, ascending."""
        last = self.snapshot.last
        if query.sort == "state":
            numbers = self.states * _RANK + last
            return -numbers if query.descending else numbers
        never = self.states == NEVER
        return np.where(never, np.inf, -last if query.descending else last)

    def _page_by_number(self, found: Indexes, query: Query) -> Page:
        total = len(found)
        number_of = self._numbers(query)
        numbers = number_of[found]
        keys = self.snapshot.keys
        if query.cursor is not None:
            after = float(query.cursor.key)
            last_id = f"{query.kind}:{query.cursor.id}".encode()
            is_later = numbers > after
            tied = np.flatnonzero(numbers == after).tolist()
            is_later[[i for i in tied if (keys[found[i]] or b"") > last_id]] = True
            later = np.flatnonzero(is_later)  # twice as fast as an index of booleans
            found, numbers = found[later], numbers[later]
        if len(found) > query.limit:
            # The smallest numbers; of those that are equal to the last of them, the smallest ids.
            bound = np.partition(numbers, query.limit)[query.limit]
            first = found[np.flatnonzero(numbers < bound)].tolist()
            missing = query.limit + 1 - len(first)
            first += self._smallest_ids(found[np.flatnonzero(numbers == bound)].tolist(), missing)
            found = np.array(first, np.intp)
        known = [i for i in found.tolist() if keys[i] is not None]
        ordered = sorted(known, key=lambda i: (number_of[i], keys[i]))
        return self._page(
            ordered, query, total, lambda i: Cursor(float(number_of[i]), _id(keys[i] or b""))
        )

    def _page_by_text(self, found: Indexes, query: Query) -> Page:
        columns, total = self._columns(query), len(found)
        if query.cursor is not None:
            own = [folded(str(query.cursor.key)), query.cursor.id.encode()][-len(columns) :]
            found = slots_after(columns, found, own, descending=query.descending)
        ordered = first_slots(columns, found, query.limit + 1, descending=query.descending)
        *_, ids = columns

        def cursor(index: int) -> Cursor:
            name = self.snapshot.names[index] if query.sort == "name" else ""
            return Cursor(name, ids.text(index).decode())

        return self._page(ordered, query, total, cursor)

    def _page(
        self, ordered: list[int], query: Query, total: int, cursor: Callable[[int], Cursor]
    ) -> Page:
        """Cut a page from its entities and the one that follows."""
        if len(ordered) <= query.limit:
            return Page(ordered, total, None)
        return Page(ordered[: query.limit], total, cursor(ordered[query.limit - 1]))

    def _smallest_ids(self, tied: list[int], count: int) -> list[int]:
        keys = self.snapshot.keys
        known = [i for i in tied if keys[i] is not None] if len(tied) > count else tied
        return heapq.nsmallest(count, known, key=lambda i: keys[i] or b"")


def _id(key: bytes) -> str:
    return key.partition(b":")[2].decode()
