"""Compares a ledger with its source: the same history, a new one, or uncertain. Pure.

What Kafka reports comes first: the topic's id, then the end offset of the ledger's leader epoch
(OffsetForLeaderEpoch). Append times only confirm the result.
"""

from dataclasses import dataclass
from typing import NamedTuple

from contract.history import NOT_A_RECORD, SourceMark
from contract.ledger import LedgerRow

MAX_CLOCK_SKEW_MS = 60_000
"""Milliseconds by which the brokers' clocks may differ."""


@dataclass(frozen=True)
class SourceLogState:
    """What Kafka reports about a source partition; times are in milliseconds, an unknown
    epoch is -1."""

    topic: str
    first: int
    end: int
    leader_epoch: int
    epoch: int = -1
    """Newest epoch that is at most the ledger's."""
    epoch_end: int = -1
    """Offset after the last record of that epoch."""
    marked: int | None = None
    """Append time of the record at the ledger's mark, None if there is no record."""
    newest_kept: int | None = None
    """Append time of the last record before the histories diverge."""
    oldest: int | None = None
    """Append time of the first record in the log."""
    stopped: str = ""
    """Why the partition was stopped before, for a ledger that does not identify its topic."""


class Same(NamedTuple):
    """The log is the one that the ledger was made from."""


class Diverged(NamedTuple):
    """All records from Kafka's offset `start` on are new."""

    start: int
    reason: str


class Uncertain(NamedTuple):
    """Only an operator can decide which records are new."""

    reason: str


Comparison = Same | Diverged | Uncertain


def known_topic(ledger: LedgerRow) -> str | None:
    """Return the id of the ledger's topic, None for a ledger of an older version."""
    if ledger.mark is not None:
        return ledger.mark.topic
    return ledger.histories[-1].topic if ledger.histories else None


def known_epoch(ledger: LedgerRow) -> int:
    """Return the leader epoch of the last counted record, or of the start of the newest history."""
    if ledger.mark is not None:
        return ledger.mark.epoch
    return ledger.histories[-1].epoch if ledger.histories else -1


def compare_ledger(ledger: LedgerRow, found: SourceLogState) -> Comparison:
    """Compare a ledger with its source."""
    topic = known_topic(ledger)
    if topic is None:
        if found.end < ledger.next_offset:
            return Uncertain(
                f"the topic ends at {found.end}, but its ledger is at {ledger.next_offset - 1} and "
                "was written by an older version, which did not store its history"
            )
        # The topic may have grown past the ledger since; that says nothing about its records.
        return Uncertain(found.stopped) if found.stopped else Same()
    if topic != found.topic:
        if found.oldest is not None and found.oldest < ledger.newest - MAX_CLOCK_SKEW_MS:
            return Uncertain(
                f"the topic's id is {found.topic}, not {topic}, but it has records that are "
                "older than the ledger's newest record"
            )
        return Diverged(0, f"the topic was deleted and recreated: its id was {topic}")
    if found.epoch < 0:
        return Uncertain(
            f"the ledger has leader epoch {known_epoch(ledger)}, but Kafka's newest is "
            f"{found.leader_epoch}: the broker's disk may be an older copy"
        )
    if found.epoch_end < ledger.next_offset:
        if found.newest_kept is not None and found.newest_kept > ledger.newest:
            return Uncertain(
                f"the histories diverge at offset {found.epoch_end}, but the record before it is "
                "newer than the ledger's newest record"
            )
        return Diverged(found.epoch_end, "the log has lost its end")
    mark = ledger.mark
    if mark is not None and is_record(mark) and mark.offset >= found.first:
        if found.marked is None:
            return Uncertain(f"the record at offset {mark.offset} was counted but is missing")
        if found.marked != mark.appended:
            return Uncertain(
                f"the record at offset {mark.offset} has another append time than the counted one"
            )
    return Same()


def is_record(mark: SourceMark) -> bool:
    """Return whether a record was counted at the mark; otherwise its offset was skipped."""
    return mark.appended != NOT_A_RECORD


class Finding(NamedTuple):
    """A ledger, the state of its source, and their comparison."""

    ledger: LedgerRow
    log_state: SourceLogState
    comparison: Comparison

    def agrees(self, other: "Finding") -> bool:
        """Return whether two comparisons have the same result; their reasons may differ."""
        mine, theirs = self.comparison, other.comparison
        return (
            type(mine) is type(theirs)
            and self.log_state.topic == other.log_state.topic
            and getattr(mine, "start", None) == getattr(theirs, "start", None)
        )


class Confirmation:
    """Confirms comparisons of a ledger: a new history must be found several times in a row."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._last: Finding | None = None
        self._times = 0

    def add(self, finding: Finding) -> bool:
        """Add a finding; return whether the result is confirmed."""
        if self._last is None or not finding.agrees(self._last):
            self._times = 0
        self._last = finding
        self._times += 1
        return isinstance(finding.comparison, Same) or self._times >= self._wanted
