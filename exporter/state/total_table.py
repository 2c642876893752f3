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
        """Take a total of a partition, unless what is held is newer; tell whether it was taken.

        Raises:
            RowError: it cannot be read, or is not where it belongs; nothing has changed.
        """
        if value is None:  # nobody deletes totals; what is held is newer
            return False
        row = decode_total(value)
        rows = self._rows.get(row.kind)
        if (
            rows is None
            or len(row.group) != len(KINDS[row.kind].group_labels)
            or key != total_key(partition, row.kind, row.group)
        ):
            raise RowError(f"a total that is not of partition {partition}, or not of {key!r}")
        held = rows.get(key)
        if held is not None and row.position < held.position:
            return False
        rows[key] = row
        return True

    def position(self, key: bytes) -> Position | None:
        """Position of the total that is held under a key."""
        held = (rows[key] for rows in self._rows.values() if key in rows)
        return next((row.position for row in held), None)

    def of_groups(self, kind: EntityKind) -> Mapping[Group, Values]:
        """Totals of all partitions, added up, of at most the kind's `max_groups`, and the rest.

        The groups that are shown are the oldest: one that comes later takes the place of none.
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
