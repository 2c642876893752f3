"""How what a backup holds stands to what an installation holds. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from contract.position import BEFORE_ALL
from contract.registry import RegistryRecord
from contract.row import EntityRow

NAMED = 20
"""Keys that a report names; the others are counted."""


class Standing(Enum):
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


def of_record(record: RegistryRecord, held: RegistryRecord | None, now: int) -> Standing:
    """Compare a registry record with the current one of its key; `now` in milliseconds.

    Of two registrations of an id the one of the higher generation is later, whatever the revisions:
    they begin anew once a removal has been dropped.
    """
    if held is None:
        ended = record.until is not None and record.until <= now
        return Standing.ENDED if ended else Standing.MISSING
    ours, theirs = _age(record), _age(held)
    if ours != theirs:
        return Standing.MISSING if ours > theirs else Standing.NEWER
    return Standing.THERE if record == held else Standing.OTHER


def _age(record: RegistryRecord) -> tuple[int, int]:
    return (-1 if record.generation is None else record.generation, record.revision)


def succeeding(record: RegistryRecord, held: RegistryRecord | None) -> RegistryRecord:
    """The record as readers who hold `held` take it: of a higher revision."""
    least = 0 if held is None else held.revision + 1
    return msgspec.structs.replace(record, revision=max(record.revision, least))


def of_row(row: EntityRow, held: EntityRow | None) -> Standing:
    """Compare a row, as `begun` has it, with the one that is held."""
    if held is None:
        return Standing.MISSING
    if held.position > BEFORE_ALL:
        return Standing.NEWER
    return Standing.THERE if row == held else Standing.OTHER


def begun(row: EntityRow) -> EntityRow:
    """The row as a new topic begins with it: before everything that will be submitted there."""
    return msgspec.structs.replace(row, offset=BEFORE_ALL.offset, index=BEFORE_ALL.index)


@dataclass
class Tally:
    """Standings of many entries."""

    counts: Counter[Standing] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Keys of the first that are missing, or something else."""

    def add(self, key: str, standing: Standing) -> None:
        self.counts[standing] += 1
        if standing in (Standing.MISSING, Standing.OTHER) and len(self.faults) < NAMED:
            self.faults.append(f"{key} ({standing.value})")

    @property
    def is_good(self) -> bool:
        """Whether all of it is there, or was and has gone on."""
        return not (self.counts[Standing.MISSING] or self.counts[Standing.OTHER])

    def document(self) -> dict[str, int]:
        return {standing.value: self.counts[standing] for standing in Standing}
