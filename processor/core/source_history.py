"""How a ledger compares with its source: the same history, another one, or not certain. Pure.

Kafka's own evidence comes first: the topic's id, then the offset up to which the history with the
ledger's leader epoch goes (OffsetForLeaderEpoch). Append times only confirm.
"""

from dataclasses import dataclass
from typing import NamedTuple

from contract.history import NOT_A_RECORD, SourceMark
from contract.row import LedgerRow

MAX_CLOCK_SKEW_MS = 60_000
"""Milliseconds by which the brokers' clocks may differ."""


@dataclass(frozen=True)
class SourceEvidence:
    """What Kafka says of a source partition; times in milliseconds, -1 for an epoch not known."""

    topic: str
    first: int
    end: int
    leader_epoch: int
    epoch: int = -1
    """Newest epoch up to the ledger's."""
    epoch_end: int = -1
    """Offset after the last record of that epoch."""
    marked: int | None = None
    """Append time of the record at the ledger's mark, None where there is none."""
    newest_kept: int | None = None
    """Append time of the last record before the two histories part."""
    oldest: int | None = None
    """Append time of the first record that the log holds."""
    stopped: str = ""
    """Why the partition was stopped before, for a ledger that does not say of which topic it is."""


class Same(NamedTuple):
    """The ledger was made from this log."""


class Parted(NamedTuple):
    """Every record from Kafka's offset `start` on is new."""

    start: int
    reason: str


class Uncertain(NamedTuple):
    """Nobody but an operator can say which records are new."""

    reason: str


Verdict = Same | Parted | Uncertain


def known_topic(ledger: LedgerRow) -> str | None:
    """Id of the topic that the ledger was made from; None for one of an older version."""
    if ledger.mark is not None:
        return ledger.mark.topic
    return ledger.histories[-1].topic if ledger.histories else None


def known_epoch(ledger: LedgerRow) -> int:
    """Leader epoch of the last record that was counted, or that the newest history began in."""
    if ledger.mark is not None:
        return ledger.mark.epoch
    return ledger.histories[-1].epoch if ledger.histories else -1


def judge(ledger: LedgerRow, found: SourceEvidence) -> Verdict:
    """Compare a ledger with its source."""
    topic = known_topic(ledger)
    if topic is None:
        if found.end < ledger.next_offset:
            return Uncertain(
                f"the topic ends at {found.end}, but its ledger is at {ledger.next_offset - 1} and "
                "was written by an older version, which did not say of which history"
            )
        # That the topic has grown past the ledger since says nothing about its records.
        return Uncertain(found.stopped) if found.stopped else Same()
    if topic != found.topic:
        if found.oldest is not None and found.oldest < ledger.newest - MAX_CLOCK_SKEW_MS:
            return Uncertain(
                f"the topic's id is {found.topic}, not {topic}, but it holds records that are "
                "older than the newest of the ledger"
            )
        return Parted(0, f"the topic was deleted and recreated: its id was {topic}")
    if found.epoch < 0:
        return Uncertain(
            f"the ledger is of leader epoch {known_epoch(ledger)}, but Kafka's newest is "
            f"{found.leader_epoch}: its disk may be an older copy"
        )
    if found.epoch_end < ledger.next_offset:
        if found.newest_kept is not None and found.newest_kept > ledger.newest:
            return Uncertain(
                f"the histories part at offset {found.epoch_end}, but the record before that is "
                "newer than the newest of the ledger"
            )
        return Parted(found.epoch_end, "the log has lost its end")
    mark = ledger.mark
    if mark is not None and is_record(mark) and mark.offset >= found.first:
        if found.marked is None:
            return Uncertain(f"the record at offset {mark.offset}, which was counted, is missing")
        if found.marked != mark.appended:
            return Uncertain(
                f"the record at offset {mark.offset} is of another time than the one counted there"
            )
    return Same()


def is_record(mark: SourceMark) -> bool:
    """Tell whether a record was counted at the mark, else the offset was skipped."""
    return mark.appended != NOT_A_RECORD


class Finding(NamedTuple):
    """A ledger, what Kafka says of its source, and what follows."""

    ledger: LedgerRow
    evidence: SourceEvidence
    verdict: Verdict

    def agrees(self, other: "Finding") -> bool:
        """Tell whether two comparisons have found the same; reasons may be worded otherwise."""
        mine, theirs = self.verdict, other.verdict
        return (
            type(mine) is type(theirs)
            and self.evidence.topic == other.evidence.topic
            and getattr(mine, "start", None) == getattr(theirs, "start", None)
        )


class Confirmation:
    """Comparisons of one ledger: another history must be found several times in a row, the same."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._last: Finding | None = None
        self._times = 0

    def add(self, finding: Finding) -> bool:
        """Take note of the newest finding; tell whether it is confirmed."""
        if self._last is None or not finding.agrees(self._last):
            self._times = 0
        self._last = finding
        self._times += 1
        return isinstance(finding.verdict, Same) or self._times >= self._wanted
