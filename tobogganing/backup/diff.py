"""How an entry of a backup compares with the live installation. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from contract.position import NO_POSITION
from contract.registry import RegistryRecord
from contract.row import EntityRow

NAMED = 20
"""Keys that a report lists; the others are only counted."""


class EntryStatus(Enum):
    """The status of a backup entry in the live installation."""

    MISSING = "missing"
    """The installation has no entry with this key, or an older one."""
    THERE = "there"
    NEWER = "newer"
    """The installation has a later version."""
    ENDED = "ended"
    """The installation has no entry with this key, and the backup's has expired."""
    OTHER = "other"
    """The installation has an entry that does not follow from the backup's."""


def compare_record(record: RegistryRecord, current: RegistryRecord | None, now: int) -> EntryStatus:
    """Compare a registry record with the current one of its key; `now` in milliseconds.

    The record with the higher incarnation is later, whatever the revisions: those start again after
    a removed record has been dropped.
    """
    if current is None:
        ended = record.expires_at_ms is not None and record.expires_at_ms <= now
        return EntryStatus.ENDED if ended else EntryStatus.MISSING
    ours, theirs = _age(record), _age(current)
    if ours != theirs:
        return EntryStatus.MISSING if ours > theirs else EntryStatus.NEWER
    return EntryStatus.THERE if record == current else EntryStatus.OTHER


def _age(record: RegistryRecord) -> tuple[int, int]:
    return (-1 if record.incarnation is None else record.incarnation, record.revision)


def as_successor(record: RegistryRecord, current: RegistryRecord | None) -> RegistryRecord:
    """The record with a revision that replaces `current`."""
    least = 0 if current is None else current.revision + 1
    return msgspec.structs.replace(record, revision=max(record.revision, least))


def compare_row(row: EntityRow, current: EntityRow | None) -> EntryStatus:
    """Compare a row from `as_restored` with the current one."""
    if current is None:
        return EntryStatus.MISSING
    if current.position > NO_POSITION:
        return EntryStatus.NEWER
    return EntryStatus.THERE if row == current else EntryStatus.OTHER


def as_restored(row: EntityRow) -> EntityRow:
    """The row with a position before every submission of the new topic."""
    return msgspec.structs.replace(row, offset=NO_POSITION.offset, index=NO_POSITION.index)


@dataclass
class StatusCounts:
    """The number of entries with each status; `faults` lists the first entries with status MISSING
    or OTHER."""

    counts: Counter[EntryStatus] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, key: str, status: EntryStatus) -> None:
        self.counts[status] += 1
        if status in (EntryStatus.MISSING, EntryStatus.OTHER) and len(self.faults) < NAMED:
            self.faults.append(f"{key} ({status.value})")

    @property
    def is_good(self) -> bool:
        """Whether no entry is missing or other."""
        return not (self.counts[EntryStatus.MISSING] or self.counts[EntryStatus.OTHER])

    def document(self) -> dict[str, int]:
        return {status.value: self.counts[status] for status in EntryStatus}
