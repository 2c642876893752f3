"""Totals of one partition, as a batch leaves them. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog

from contract.kinds import KINDS
from contract.position import Position
from contract.row import RowError, RowVersionError
from contract.total import (
    TOTAL_VERSION,
    Group,
    TotalRow,
    decode_total,
    other_group,
    total_key,
    total_prefix,
)
from processor.core.growth import Growth
from processor.core.partition_state import PartitionState

log = structlog.get_logger(__name__)


class Addition(NamedTuple):
    """What one submission adds to the total of its group; `key` is its entity's."""

    key: bytes
    kind: str
    group: Group
    position: Position
    appended_ms: int
    growth: Growth


def group_of(kind: str, labels: dict[str, str]) -> Group:
    """The group of an entity with these labels."""
    return tuple([labels.get(name, "") for name in KINDS[kind].group_labels])


class Totals:
    """The newest totals of a partition: those of its state, and what batches have added."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._changed: dict[bytes, TotalRow] = {}

    def add(self, additions: Iterable[Addition]) -> dict[bytes, TotalRow]:
        """Return the totals as they are with `additions`; `keep` must follow to keep them."""
        changed: dict[bytes, TotalRow] = {}
        for each in additions:
            try:
                row = self._total(each, changed)
            except RowVersionError:  # a newer worker wrote it: it is not for this one to touch
                continue
            row.offset, row.index = each.position
            for field, growth in each.growth.items():
                row.values[field] = row.values.get(field, 0) + growth
        return changed

    def keep(self, changed: dict[bytes, TotalRow]) -> None:
        self._changed.update(changed)

    def commit(self) -> None:
        """Take note that the state has them."""
        if not self._changed.keys() <= self._state.total_keys:
            self._state.forget_total_keys()

    def _total(self, addition: Addition, changed: dict[bytes, TotalRow]) -> TotalRow:
        """The total that something is added to, as one of `changed`.

        Raises:
            RowVersionError: it is of a version that is not known here.
        """
        kind, group = addition.kind, addition.group
        key = total_key(self._state.partition, kind, group)
        if not self._is_known(key, changed) and self._is_full(kind, changed):
            group = other_group(KINDS[kind])
            key = total_key(self._state.partition, kind, group)
        row = changed.get(key)
        if row is None:
            row = changed[key] = self._held(key) or TotalRow(
                TOTAL_VERSION, *addition.position, kind, group, addition.appended_ms
            )
        return row

    def _is_known(self, key: bytes, changed: dict[bytes, TotalRow]) -> bool:
        return key in changed or key in self._changed or key in self._state.rows

    def _is_full(self, kind: str, changed: dict[bytes, TotalRow]) -> bool:
        prefix = total_prefix(self._state.partition, kind)
        known = {*self._state.total_keys, *self._changed, *changed}
        return sum(key.startswith(prefix) for key in known) >= KINDS[kind].max_groups

    def _held(self, key: bytes) -> TotalRow | None:
        """A copy of the total before what is being added.

        Raises:
            RowVersionError: it is of a version that is not known here.
        """
        row = self._changed.get(key)
        if row is not None:
            return msgspec.structs.replace(row, values=dict(row.values))
        value = self._state.rows.get(key)
        try:
            return None if value is None else decode_total(value)
        except RowVersionError:
            raise
        except RowError as error:
            log.error("a total cannot be read, and begins at 0", key=key, reason=str(error))
            return None
