"""Totals of all served partitions, as entity-state has them. Pure."""

from collections.abc import Mapping

from contract.kinds import KINDS, EntityKind, replace_refused
from contract.position import Position
from contract.row import RowError
from contract.total import Group, TotalRow, decode_total, other_group, total_key

Values = dict[str, int | float]
"""By field of a kind's counters."""


class TotalTable:
    """The newest total of each partition and group."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[bytes, TotalRow]] = {name: {} for name in KINDS}

    def apply(self, partition: int, key: bytes, value: bytes | None) -> bool:
        """Apply a total, unless the stored one is newer; return whether it was applied.

        Raises:
            RowError: it cannot be decoded, or its key is not its own; nothing has changed.
        """
        if value is None:  # totals are not deleted, so a tombstone is never newer
            return False
        row = decode_total(value)
        rows = self._rows.get(row.kind)
        if (
            rows is None
            or len(row.group) != len(KINDS[row.kind].group_labels)
            or key != total_key(partition, row.kind, row.group)
        ):
            raise RowError(f"a total that is not of partition {partition}, or not of {key!r}")
        stored = rows.get(key)
        if stored is not None and row.position < stored.position:
            return False
        rows[key] = row
        return True

    def position(self, key: bytes) -> Position | None:
        """Return the position of the total under a key; None if there is none."""
        stored = (rows[key] for rows in self._rows.values() if key in rows)
        return next((row.position for row in stored), None)

    def of_groups(self, kind: EntityKind) -> Mapping[Group, Values]:
        """Return the totals of each group, added up over the partitions.

        Only the oldest `max_groups` groups are shown, so that a new group never replaces one. All
        others are added to one group, OTHER_GROUP.
        """
        rows = [(tuple(map(replace_refused, r.group)), r) for r in self._rows[kind.name].values()]
        since: dict[Group, int] = {}
        for group, row in rows:
            since[group] = min(row.since, since.get(group, row.since))
        other = other_group(kind)
        since.pop(other, None)
        oldest = sorted(since, key=lambda group: (since[group], group))[: kind.max_groups]
        shown = set(oldest)
        found: dict[Group, Values] = {}
        for group, row in rows:
            values = found.setdefault(group if group in shown else other, {})
            for metric in kind.counters:
                grown = row.values.get(metric.field, 0)
                values[metric.field] = values.get(metric.field, 0) + grown
        return found
