"""Sheets: the kept lines of all entities of one kind, ready to be joined."""

from contract.kinds import EntityKind
from exporter.lines import NO_SERIES, family_header


class Sheet:
    """One column of lines per family; every entity with series has a slot in each column."""

    def __init__(self, kind: EntityKind) -> None:
        self._headers = [family_header(metric) for metric in kind.families]
        self._columns: list[list[bytes]] = [[] for _ in kind.families]
        self._free: list[int] = []

    def __len__(self) -> int:
        """Number of entities with series."""
        return len(self._columns[0]) - len(self._free)

    def add(self, lines: list[bytes]) -> int:
        """Give an entity a slot."""
        if self._free:
            slot = self._free.pop()
            self.replace(slot, lines)
            return slot
        for column, line in zip(self._columns, lines, strict=True):
            column.append(line)
        return len(self._columns[0]) - 1

    def replace(self, slot: int, lines: list[bytes]) -> None:
        """Show an entity's new lines instead of those that it had."""
        for column, line in zip(self._columns, lines, strict=True):
            column[slot] = line

    def remove(self, slot: int) -> None:
        """Take an entity's series away."""
        for column in self._columns:
            column[slot] = NO_SERIES
        self._free.append(slot)

    def parts(self) -> list[bytes]:
        """All families with all their lines, to be joined."""
        parts: list[bytes] = []
        for header, column in zip(self._headers, self._columns, strict=True):
            parts.append(header)
            parts += column
        return parts
