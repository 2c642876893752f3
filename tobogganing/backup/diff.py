"""How what a backup holds stands to what an installation holds. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from contract.position import NO_POSITION
from contract.registry import RegistryRecord
from contract.row import EntityRow

NAMED = 20
"""Keys that a report names; the others are counted."""


class EntryStatus(Enum):
    """Of an entry of a backup, in an installation."""

    MISSING = "missing"
    """It is not there, or an older one is."""
    THERE = "there"
    NEWER = "newer"
    """The installation has gone on from it."""
    ENDED = "ended"
    """It is not there, and its time is over."""
    OTHER = "other"
    """Something else is there that cannot have come from it."""


def compare_record(record: RegistryRecord, held: RegistryRecord | None, now: int) -> EntryStatus:
    """Compare a registry record with the current one of its key; `now` in milliseconds.

    Of two registrations of an id the one of the higher generation is later, whatever the revisions:
    they begin anew once a removal has been dropped.
    """
    if held is None:
        ended = record.expires_at_ms is not None and record.expires_at_ms <= now
        return EntryStatus.ENDED if ended else EntryStatus.MISSING
    ours, theirs = _age(record), _age(held)
    if ours != theirs:
        return EntryStatus.MISSING if ours > theirs else EntryStatus.NEWER
    return EntryStatus.THERE if record == held else EntryStatus.OTHER


def _age(record: RegistryRecord) -> tuple[int, int]:
    return (-1 if record.incarnation is None else record.incarnation, record.revision)


def as_successor(record: RegistryRecord, held: RegistryRecord | None) -> RegistryRecord:
    """The record as readers who hold `held` take it: of a higher revision."""
    least = 0 if held is None else held.revision + 1
    return msgspec.structs.replace(record, revision=max(record.revision, least))


def compare_row(row: EntityRow, held: EntityRow | None) -> EntryStatus:
    """Compare a row, as `as_restored` has it, with the one that is held."""
    if held is None:
        return EntryStatus.MISSING
    if held.position > NO_POSITION:
        return EntryStatus.NEWER
    return EntryStatus.THERE if row == held else EntryStatus.OTHER


def as_restored(row: EntityRow) -> EntityRow:
    """The row as a new topic begins with it: before everything that will be submitted there."""
    return msgspec.structs.replace(row, offset=NO_POSITION.offset, index=NO_POSITION.index)


@dataclass
class StatusCounts:
    """Standings of many entries."""

    counts: Counter[EntryStatus] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Keys of the first that are missing, or something else."""

    def add(self, key: str, standing: EntryStatus) -> None:
        self.counts[standing] += 1
        if standing in (EntryStatus.MISSING, EntryStatus.OTHER) and len(self.faults) < NAMED:
            self.faults.append(f"{key} ({standing.value})")

    @property
    def is_good(self) -> bool:
        """Whether all of it is there, or was and has gone on."""
        return not (self.counts[EntryStatus.MISSING] or self.counts[EntryStatus.OTHER])

    def document(self) -> dict[str, int]:
        return {standing.value: self.counts[standing] for standing in EntryStatus}
