"""Totals of one partition, as a batch leaves them. No I/O except log lines."""

import functools
from collections import defaultdict

import structlog

from contract.kinds import KINDS
from contract.row import RowError, RowVersionError
from contract.total import (
    TOTAL_VERSION,
    Group,
    TotalRow,
    decode_total,
    encode_total,
    other_group,
    total_key,
    total_prefix,
)
from processor.core.growth import COUNTERS, Growth
from processor.core.partition_state import PartitionState

log = structlog.get_logger(__name__)

MAX_NUMBER_BYTES = 30
"""Maximum size of a total's value of one counter in JSON."""
MAX_TOTAL_OVERHEAD = 200
"""Maximum size of an encoded total in addition to its key, group and values, and of its record."""


Addition = tuple[bytes, tuple[int, int], int, Growth]
"""What one submission adds to the total of its group: its entity's key, its position, its append
time in milliseconds, and the growth. A plain tuple, because one is made for each submission."""
KindGroup = tuple[str, Group]
Additions = defaultdict[KindGroup, list[Addition]]
"""Additions in the order of their positions; no list is empty."""


def no_additions() -> Additions:
    return defaultdict(list)


class Totals:
    """The totals of a partition: those of its state, and what a batch adds to them."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._rows: dict[bytes, TotalRow] = {}
        self._added = no_additions()

    def size_of(self, additions: Additions) -> int:
        """Return the maximum size of the records that additions add to the next changes."""
        new = additions.keys() - self._added.keys()
        return sum(_max_size(self._state.partition, *each) for each in new)

    def max_size_of(self, additions: Additions) -> int:
        """Return the maximum size of the records of all totals to which additions belong."""
        return sum(_max_size(self._state.partition, *each) for each in additions)

    def add(self, additions: Additions) -> None:
        """Add additions to the next changes, which sum all of a group at once."""
        for group, each in additions.items():
            self._added[group] += each

    def encode_changed(self) -> dict[bytes, bytes]:
        """Return the encoded totals that have changed since the last call."""
        changed: dict[bytes, TotalRow] = {}
        growing = {}
        for kind_and_group, additions in self._added.items():
            if not (any(additions[0][-1]) and any(additions[-1][-1])):  # rare: an idle client
                additions = [each for each in additions if any(each[-1])]
            if additions:
                growing[kind_and_group] = additions
        # In the order of their first additions: it decides which groups exist.
        for (kind, group), additions in sorted(growing.items(), key=lambda item: item[1][0][1]):
            try:
                key, row = self._total(kind, group, additions[0])
            except RowVersionError:  # written by a newer worker
                continue
            row.offset, row.index = max((row.offset, row.index), additions[-1][1])
            sums = map(sum, zip(*[growth for *_, growth in additions], strict=True))
            for field, grown in zip(COUNTERS[kind].fields, sums, strict=True):
                if grown:
                    row.values[field] = row.values.get(field, 0) + grown
            changed[key] = row
        self._added.clear()
        return {key: encode_total(row) for key, row in changed.items()}

    def commit(self) -> None:
        """Record that the state includes them."""
        if not self._rows.keys() <= self._state.total_keys:
            self._state.forget_total_keys()

    def _total(self, kind: str, group: Group, first: Addition) -> tuple[bytes, TotalRow]:
        """Return the total of a group, or that of the remaining groups if there are too many.

        Raises:
            RowVersionError: its version is not supported.
        """
        key = total_key(self._state.partition, kind, group)
        if not (key in self._rows or key in self._state.rows) and self._is_full(kind):
            group = other_group(KINDS[kind])
            key = total_key(self._state.partition, kind, group)
        row = self._rows.get(key)
        if row is None:
            row = self._held(key)
            if row is None:
                _, position, appended_ms, _ = first
                row = TotalRow(TOTAL_VERSION, *position, kind, group, appended_ms)
            self._rows[key] = row
        return key, row

    def _is_full(self, kind: str) -> bool:
        prefix = total_prefix(self._state.partition, kind)
        known = self._state.total_keys | self._rows.keys()
        return sum(key.startswith(prefix) for key in known) >= KINDS[kind].max_groups

    def _held(self, key: bytes) -> TotalRow | None:
        """Return the total as it is in the state.

        Raises:
            RowVersionError: its version is not supported.
        """
        value = self._state.rows.get(key)
        try:
            return None if value is None else decode_total(value)
        except RowVersionError:
            raise
        except RowError as error:
            log.error("a total cannot be decoded and begins at 0", key=key, reason=str(error))
            return None


@functools.lru_cache(4_096)
def _max_size(partition: int, kind: str, group: Group) -> int:
    key = total_key(partition, kind, group)
    numbers = sum(len(field) + MAX_NUMBER_BYTES for field in COUNTERS[kind].fields)
    return 2 * len(key) + numbers + MAX_TOTAL_OVERHEAD
