"""What must be shown after a source lost its end: what is kept counts, no receipt lies. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from contract.frame import partition_of
from contract.kinds import CLIENT
from contract.position import Receipt
from tests.chaos.scrape import Scrape


class Ack(NamedTuple):
    """A submission that was answered 200."""

    key: str
    number: int
    receipt: Receipt


class LogRecord(NamedTuple):
    """A record of the submissions topic: its append time, and how many submissions it has."""

    appended: int
    submissions: int


Log = Mapping[tuple[int, int], LogRecord]
"""What the submissions topic holds, by partition and offset."""


class HistoryModel:
    """Each client submits 1, 2, 3 …, one at a time."""

    METRICS: ClassVar = [metric.field for metric in CLIENT.metrics]

    def __init__(self, partitions: int) -> None:
        self.acknowledged = 0
        self._partitions = partitions
        self._sent: Counter[str] = Counter()
        self._attempts: Counter[int] = Counter()
        self._acks: list[Ack] = []
        self._older: list[Ack] = []
        """Of the round before."""
        self._seen: dict[str, int] = {}
        """The newest number that was shown."""
        self._before: dict[str, int] = {}
        """The newest number that was shown before the fault."""
        self._gone: dict[Ack, int] = {}
        """The newest number of the client that was shown before the fault that took it."""

        self._log: Log = {}
        """What the topic held at the end of the round before."""
        self._read: Counter[int] = Counter()
        """What the ledgers had counted then, by partition."""
        self._worker_killed = False
        self._open: Counter[int] = Counter()
        """Attempts that were not answered 200, and of which no record was found yet."""

    def send(self, key: str) -> int:
        self._sent[key] += 1
        self._open[partition_of(key.encode(), self._partitions)] += 1
        self._attempts[partition_of(key.encode(), self._partitions)] += 1
        return self._sent[key]

    def acknowledge(self, key: str, number: int, receipt: str) -> None:
        self.acknowledged += 1
        self._open[partition_of(key.encode(), self._partitions)] -= 1
        self._acks.append(Ack(key, number, Receipt.parse(receipt)))

    def begin_fault(self, *, worker_killed: bool = False) -> None:
        self._worker_killed = worker_killed
        self._before = dict(self._seen)

    def end_round(self) -> None:
        self._older, self._acks = self._acks, []

    def see(self, scrape: Scrape) -> list[str]:
        """Look at a scrape under load; return what is wrong with it."""
        for key, number in scrape.numbers.items():
            self._seen[key] = max(number, self._seen.get(key, 0))
        return scrape.faults + [
            f"{key} shows {number}, which was never sent"
            for key, number in scrape.numbers.items()
            if not 0 < number <= self._sent[key]
        ]

    def sort(self, log: Log) -> tuple[list[Ack], list[Ack]]:
        """What was acknowledged since the round before, and the topic holds, or has lost."""
        kept: list[Ack] = []
        gone: list[Ack] = []
        for ack in self._older + self._acks:
            if is_in(log, ack):
                kept.append(ack)
            else:
                gone.append(ack)
                self._gone.setdefault(ack, self._before.get(ack.key, 0))
        return kept, gone

    def compare(self, scrape: Scrape, kept: Sequence[Ack], *, remembers: bool) -> list[str]:
        """Compare what is shown once everything is processed.

        `remembers`: the rows are not those of an older end of their topic.
        """
        wrong = self.see(scrape)
        for ack in kept:
            if scrape.numbers.get(ack.key, 0) < ack.number:
                wrong.append(f"skipped: {ack} is kept, but {scrape.numbers.get(ack.key)} is shown")
        for key, number in self._seen.items():
            if remembers and scrape.numbers.get(key, 0) < number:
                wrong.append(f"gone: {key} showed {number}, and {scrape.numbers.get(key)} now")
        if not remembers:
            self._seen = dict(scrape.numbers)
        for ledger in scrape.ledgers.values():
            if ledger.read > self._attempts[ledger.partition]:
                wrong.append(f"{ledger} of {self._attempts[ledger.partition]}: counted twice")
            if ledger.dead_lettered or ledger.lost:
                wrong.append(f"{ledger} has dead letters, or lost records")
        return wrong

    def sum_up(
        self, read: Mapping[int, int], log: Log, counted: Sequence[Ack], *, remembers: bool
    ) -> list[str]:
        """Compare what the ledgers have counted since the round before, to the last submission.

        They must have counted what is new in the log, and of what was cut off since then, what
        receipts call processed (`counted`). More than that may only be attempts that were not
        answered: what became of those that were cut off, nobody knows.
        """
        wrong = []
        cut = Counter(a.receipt.partition for a in set(counted).intersection(self._acks))
        kept = Counter(a.receipt.partition for a in self._acks if is_in(log, a))
        for partition, now in read.items():
            new = sum(
                record.submissions
                for place, record in log.items()
                if place[0] == partition and self._log.get(place) != record
            )
            surplus = now - self._read[partition] - new - cut[partition]
            self._open[partition] -= new - kept[partition]
            if remembers:
                self._open[partition] -= surplus
                if surplus < 0 or self._open[partition] < 0:
                    wrong.append(
                        f"partition {partition}: {now - self._read[partition]} were counted, "
                        f"{new} are in the log ({kept[partition]} acknowledged), {cut[partition]} "
                        f"were cut off after it; {self._open[partition]} unanswered are left"
                    )
                    self._open[partition] = 0
        self._read, self._log = Counter(read), dict(log)
        return wrong

    def check_kept(self, ack: Ack, status: int, document: Mapping[str, Any]) -> list[str]:
        """Compare what a receipt says of a submission that the topic holds."""
        if (status, document.get("state"), document.get("result")) == (200, "processed", "applied"):
            return []
        return [f"{ack} is kept: {status} {document}"]

    def check_gone(self, ack: Ack, status: int, document: Mapping[str, Any]) -> list[str]:
        """Compare what a receipt says of a submission that the topic has lost."""
        state, before = document.get("state"), self._gone[ack]
        if status == 200 and state == "lost" and ack.number > before:
            return []
        if status == 200 and state == "processed" and ack.number <= self._seen.get(ack.key, 0):
            return []
        if status == 200 and state == "ambiguous" and self._worker_killed:
            return []  # between rows and their ledger
        return [f"{ack} is gone, {before} was shown before: {status} {document}"]


def is_in(log: Log, ack: Ack) -> bool:
    """Tell whether the log holds the record of an acknowledged submission."""
    record = log.get((ack.receipt.partition, ack.receipt.offset))
    return record is not None and record.appended == ack.receipt.appended
