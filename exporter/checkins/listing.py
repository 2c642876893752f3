"""Counts, filters, sorts and pages a snapshot of the directory. Pure; runs in a thread."""

import heapq
from collections.abc import Sequence
from operator import gt, lt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.kinds import is_id
from exporter.checkins.directory import Snapshot
from exporter.checkins.query import Cursor, Query
from exporter.checkins.state import LATE, NEVER, OFFLINE, ONLINE, STATES
from exporter.state.columns import ANOMALOUS, SEEN
from exporter.thresholds import Thresholds

Indexes = NDArray[np.intp]
LINE_FEED = 10
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


class Page(NamedTuple):
    """One page of a list: indexes into the snapshot; `next` is None on the last page."""

    indexes: list[int]
    total: int
    next: Cursor | None


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
        states[age < thresholds.late] = LATE
        states[age < thresholds.online] = ONLINE
        states[(flags & SEEN) == 0] = NEVER
        states[flags == 0] = -1
        self.states = states
        self._names_text: bytes | None = None
        self._name_ends: Indexes = np.empty(0, np.intp)

    def counts(self) -> tuple[int, ...]:
        """Return the number of entities in each state."""
        counted = np.bincount(self.states + 1, minlength=len(STATES) + 1)
        return tuple(int(count) for count in counted[1:])

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
        silent = (self.states == OFFLINE) | (self.states == LATE)
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
            mask = np.isin(self.states, list(query.states))
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
        keys, names = self.snapshot.keys, self.snapshot.names
        if query.sort == "name":
            return sorted(
                found.tolist(), key=lambda i: (names[i], keys[i]), reverse=query.descending
            )
        if query.sort == "id":
            return sorted(found.tolist(), key=lambda i: keys[i] or b"", reverse=query.descending)
        numbers = self._numbers(query)
        by_id = sorted(found.tolist(), key=lambda i: keys[i] or b"")
        indexes = np.array(by_id, np.intp)
        return indexes[np.argsort(numbers[indexes], kind="stable")].tolist()  # type: ignore[no-any-return]

    def _search(self, found: Indexes, query: Query) -> Indexes:
        """Search names, in any case, and the beginnings of ids."""
        matches = self._with_name(query.search.casefold().encode())
        if is_id(query.search):
            prefix = f"{query.kind}:{query.search}".encode()
            keys = self.snapshot.keys
            own = [i for i, key in enumerate(keys) if key is not None and key.startswith(prefix)]
            matches = np.concatenate([matches, np.array(own, np.intp)])
        mask = np.zeros(len(self.states), bool)
        mask[matches[matches < len(mask)]] = True
        return found[mask[found]]

    def _with_name(self, wanted: bytes) -> Indexes:
        """Return the indexes of the names that contain a text.

        All names are searched as one text, in which a line feed ends each.
        """
        if self._names_text is None:
            names = [*self.snapshot.names[: len(self.states)], ""]
            self._names_text = "\n".join(names).casefold().encode("utf-8", "surrogatepass")
            text = np.frombuffer(self._names_text, np.uint8)
            self._name_ends = np.flatnonzero(text == LINE_FEED)
        text_of_all, starts = self._names_text, []
        start = text_of_all.find(wanted)
        while start >= 0:
            starts.append(start)
            start = text_of_all.find(wanted, start + 1)
        return np.searchsorted(self._name_ends, np.array(starts, np.intp))

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
        numbers = self._numbers(query)[found]
        if query.cursor is not None:
            after = float(query.cursor.key)
            last_id = f"{query.kind}:{query.cursor.id}".encode()
            is_later = numbers > after
            tied = np.flatnonzero(numbers == after).tolist()
            keys = self.snapshot.keys
            is_later[[i for i in tied if (keys[found[i]] or b"") > last_id]] = True
            found, numbers = found[is_later], numbers[is_later]
        if len(found) > query.limit:
            # The smallest numbers; of those that are equal to the last of them, the smallest ids.
            bound = np.partition(numbers, query.limit)[query.limit]
            below = numbers < bound
            first = found[below].tolist()
            missing = query.limit + 1 - len(first)
            first += self._smallest_ids(found[numbers == bound].tolist(), missing)
            found = np.array(first, np.intp)
        number_of = self._numbers(query)
        keys = self.snapshot.keys
        known = [i for i in found.tolist() if keys[i] is not None]
        ordered = sorted(known, key=lambda i: (number_of[i], keys[i]))
        return self._page(ordered, query, total, [float(number_of[i]) for i in ordered])

    def _page_by_text(self, found: Indexes, query: Query) -> Page:
        keys, names = self.snapshot.keys, self.snapshot.names
        texts: Sequence[Any] = names if query.sort == "name" else keys
        candidates = [i for i in found.tolist() if keys[i] is not None]
        if query.cursor is not None:
            own = f"{query.kind}:{query.cursor.id}".encode()
            after: Any = str(query.cursor.key) if query.sort == "name" else own
            is_later = gt if not query.descending else lt
            candidates = [
                i
                for i in candidates
                if is_later(texts[i], after) or (texts[i] == after and is_later(keys[i], own))
            ]
        choose = heapq.nlargest if query.descending else heapq.nsmallest
        ordered = choose(query.limit + 1, candidates, key=texts.__getitem__)
        if len(ordered) > query.limit and query.sort == "name":
            # Of equal names at the end of the page, the first ids.
            last = names[ordered[-1]]
            certain = [i for i in ordered if names[i] != last]
            tied = [i for i in candidates if names[i] == last]
            ordered = certain + choose(
                query.limit + 1 - len(certain), tied, key=lambda i: keys[i] or b""
            )
        ordered.sort(key=lambda i: (texts[i], keys[i]), reverse=query.descending)
        shown = [names[i] if query.sort == "name" else "" for i in ordered]
        return self._page(ordered, query, len(found), shown)

    def _page(
        self, ordered: list[int], query: Query, total: int, sort_keys: Sequence[float | str]
    ) -> Page:
        """Cut a page from its entities and the one that follows."""
        if len(ordered) <= query.limit:
            return Page(ordered, total, None)
        last = query.limit - 1
        key = self.snapshot.keys[ordered[last]]
        assert key is not None
        return Page(
            ordered[: query.limit],
            total,
            Cursor(sort_keys[last], key.partition(b":")[2].decode()),
        )

    def _smallest_ids(self, tied: list[int], count: int) -> list[int]:
        keys = self.snapshot.keys
        known = [i for i in tied if keys[i] is not None] if len(tied) > count else tied
        return heapq.nsmallest(count, known, key=lambda i: keys[i] or b"")
