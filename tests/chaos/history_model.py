"""The model for a source that loses its end: kept records count, receipts are correct. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from contract.entity import partition_of
from contract.kinds import CLIENT
from contract.position import Receipt
from tests.chaos.scrape import Scrape


class Ack(NamedTuple):
    """An acknowledged submission."""

    key: str
    number: int
    receipt: Receipt


class LogRecord(NamedTuple):
    """The append time of a record in the submissions topic, and its number of submissions."""

    appended: int
    submissions: int


Log = Mapping[tuple[int, int], LogRecord]
"""The content of the submissions topic by partition and offset."""


class HistoryModel:
    """The expected state; each client submits 1, 2, 3 … one at a time."""

    METRICS: ClassVar = [metric.field for metric in CLIENT.metrics]

    def __init__(self, partitions: int) -> None:
        self.acknowledged = 0
        self._partitions = partitions
        self._sent: Counter[str] = Counter()
        self._attempts: Counter[int] = Counter()
        self._acks: list[Ack] = []
        self._older: list[Ack] = []
        """The acknowledgements of the previous round."""
        self._seen: dict[str, int] = {}
        """The newest number shown per client."""
        self._before: dict[str, int] = {}
        """The newest number shown before the fault."""
        self._gone: dict[Ack, int] = {}
        """The newest number of a client shown before the fault that lost it."""

        self._log: Log = {}
        """The content of the topic at the end of the previous round."""
        self._read: Counter[int] = Counter()
        """The ledgers' counts at that time, by partition."""
        self._worker_killed = False
        self._open: Counter[int] = Counter()
        """Attempts without a 200 response for which no record was found yet."""

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
        """Check a scrape under load; return what is wrong."""
        for key, number in scrape.numbers.items():
            self._seen[key] = max(number, self._seen.get(key, 0))
        return scrape.faults + [
            f"{key} shows {number}, which was never sent"
            for key, number in scrape.numbers.items()
            if not 0 < number <= self._sent[key]
        ]

    def sort(self, log: Log) -> tuple[list[Ack], list[Ack]]:
        """Split the acknowledgements since the previous round into kept and lost ones."""
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
        """Compare the scrape after everything has been processed; return what is wrong.

        `remembers`: the entity-state topic has not lost its end.
        """
        wrong = self.see(scrape)
        for ack in kept:
            if scrape.numbers.get(ack.key, 0) < ack.number:
                wrong.append(
                    f"skipped: {ack} is in the topic, but {scrape.numbers.get(ack.key)} shows"
                )
        for key, number in self._seen.items():
            if remembers and scrape.numbers.get(key, 0) < number:
                wrong.append(f"regressed: {key} showed {number}, now {scrape.numbers.get(key)}")
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
        """Compare the ledgers' counts since the previous round with the log, exactly.

        The ledgers must have counted the new records of the log, and those lost records whose
        receipts are `processed` (`counted`). Any surplus must be attempts without a response,
        because their outcome is unknown after a loss.
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
                        f"were counted and lost; {self._open[partition]} without a response remain"
                    )
                    self._open[partition] = 0
        self._read, self._log = Counter(read), dict(log)
        return wrong

    def check_kept(self, ack: Ack, status: int, document: Mapping[str, Any]) -> list[str]:
        """Compare the receipt status of a submission that the topic has."""
        if (status, document.get("state"), document.get("result")) == (200, "processed", "applied"):
            return []
        return [f"{ack} is kept: {status} {document}"]

    def check_gone(self, ack: Ack, status: int, document: Mapping[str, Any]) -> list[str]:
        """Compare the receipt status of a submission that the topic has lost."""
        state, before = document.get("state"), self._gone[ack]
        if status == 200 and state == "lost" and ack.number > before:
            return []
        if status == 200 and state == "processed" and ack.number <= self._seen.get(ack.key, 0):
            return []
        if status == 200 and state == "ambiguous" and self._worker_killed:
            return []  # killed between the rows and their ledger
        return [f"{ack} is gone, {before} was shown before: {status} {document}"]


def is_in(log: Log, ack: Ack) -> bool:
    """Return whether the log has the record of an acknowledged submission."""
    record = log.get((ack.receipt.partition, ack.receipt.offset))
    return record is not None and record.appended == ack.receipt.appended
