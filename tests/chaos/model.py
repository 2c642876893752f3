"""The model: what scrapes may show, given the submissions and their responses. Pure.

The submissions of an entity are numbered consecutively, and all metrics have the number as their
value. An entity sends one submission at a time, and after one without a response nothing newer
until its deadline has passed (see load.py). So the numbers may be accepted only in order, and a
series can only grow.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from contract.entity import partition_of
from tests.chaos.credential_model import CredentialModel
from tests.chaos.scrape import Ledger, Scrape


class Outcome(Enum):
    """What its sender knows of a submission's outcome."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """It did not arrive, or got a 4xx: it must not take effect."""
    UNKNOWN = "unknown"
    """503, or no response: it was applied before its deadline, or never will be."""


@dataclass
class ModelEntity:
    """The submissions of one entity."""

    sent: int = 0
    """The newest number; the first is 1."""
    acknowledged: int = 0
    """The newest acknowledged number, of those that must show."""
    unknown: set[int] = field(default_factory=set)
    """Newer numbers with an unknown outcome."""
    never: set[int] = field(default_factory=set)
    """Numbers that must not show: rejected, or a sample older than one applied before."""
    leaving: bool = False
    """Its removal was sent: it may show or not."""
    gone: bool = False
    """Its removal was acknowledged."""

    def may_end_with(self, number: int) -> bool:
        """Return whether it may show this number once no submission is in flight."""
        return number not in self.never and (number == self.acknowledged or number in self.unknown)


@dataclass
class Verdict:
    """The result: what was `lost`, and what is `wrong` otherwise."""

    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.lost + other.lost, self.wrong + other.wrong)


class PipelineModel:
    """All entities by key, such as `client:c-1`, and the expected ledger counters."""

    def __init__(self, partitions: int) -> None:
        self.entities: dict[str, ModelEntity] = {}
        self.acknowledged: Counter[int] = Counter()
        """Acknowledged submissions by partition."""
        self.sent: Counter[int] = Counter()
        """Attempts that may have reached Kafka, by partition."""
        self.bad_frames: Counter[int] = Counter()
        """Undecodable frames written by a fault, by partition."""
        self.credentials = CredentialModel()
        """Credentials with which no agent reports."""
        self.lost: Counter[int] = Counter()
        """Frames that a fault has deleted unread, by partition; ledgers must count them."""
        self.deleted: Counter[int] = Counter()
        """Submissions in these frames that may have been acknowledged, by partition."""
        self._partitions = partitions
        self._seen: dict[str, dict[str, int]] = {}
        self._counted: dict[str, dict[int, Ledger]] = {}

    def send(self, key: str, *, repeat: bool = False, visible: bool = True) -> int:
        """Record an attempt; return its number: a new one, or the newest one again.

        An attempt that is not `visible` changes nothing: its sample is older than what was applied.
        """
        entity = self.entities.setdefault(key, ModelEntity())
        self.sent[self.partition(key)] += 1
        if not repeat:
            entity.sent += 1
            if not visible:
                entity.never.add(entity.sent)
        return entity.sent

    def settle(self, key: str, number: int, outcome: Outcome) -> None:
        """Record the outcome of an attempt."""
        entity = self.entities[key]
        if outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged[self.partition(key)] += 1
            if number not in entity.never:
                entity.acknowledged = max(entity.acknowledged, number)
                entity.unknown = {each for each in entity.unknown if each > number}
        elif outcome is Outcome.REFUSED:
            self.sent[self.partition(key)] -= 1
            if number not in entity.unknown and number != entity.acknowledged:
                entity.never.add(number)
        elif number > entity.acknowledged and number not in entity.never:
            entity.unknown.add(number)

    def remove(self, key: str) -> None:
        """Record an attempt to remove an entity, which is a submission, too."""
        self.entities.setdefault(key, ModelEntity()).leaving = True  # it may not have reported yet
        self.sent[self.partition(key)] += 1

    def removed(self, key: str) -> None:
        """Record that a removal was acknowledged."""
        self.entities[key].gone = True
        self.acknowledged[self.partition(key)] += 1

    def delete(self, partition: int, key: str, numbers: set[int], applied: int) -> None:
        """Record that submissions of an entity were deleted unread.

        `applied` is the newest number applied before; none of the others may show.
        """
        entity = self.entities[key]
        self.deleted[partition] += len(numbers)
        entity.never |= {number for number in numbers if number > applied}
        entity.unknown = {number for number in entity.unknown if number not in numbers}
        entity.acknowledged = min(entity.acknowledged, applied)

    def shown(self) -> set[str]:
        """Return the entities that a scrape has shown with a number."""
        return {key for seen in self._seen.values() for key, number in seen.items() if number > 0}

    def see(self, exporter: str, scrape: Scrape, *, covered: Mapping[str, int]) -> list[str]:
        """Check a scrape under load; return what is wrong.

        `covered` has the minimum numbers, for which the scrape waited by receipts.
        """
        seen = self._seen.setdefault(exporter, {})
        wrong = [*scrape.faults, *self._regressions(exporter, scrape.ledgers)]
        for key, number in scrape.numbers.items():
            sender = self.entities.get(key)
            before = seen.get(key, 0)
            if sender is None or not 0 < number <= sender.sent or number in sender.never:
                wrong.append(f"{key} shows {number}, which was never sent or may not show")
            elif before < 0:
                wrong.append(f"{key} shows {number} after its removal had shown")
            elif number < before:
                wrong.append(f"{key} went back from {before} to {number}")
        for key, number in covered.items():
            entity = self.entities[key]
            if number in entity.never or entity.leaving:  # deleted or removed since then
                continue
            if scrape.numbers.get(key, 0) < number:
                wrong.append(f"{key} shows {scrape.numbers.get(key)} after a receipt of {number}")
        for key in seen.keys() - scrape.numbers.keys():
            if self.entities[key].leaving:
                seen[key] = -1
            elif seen[key] > 0:
                wrong.append(f"{key} has disappeared")
        seen.update({key: max(seen.get(key, 0), n) for key, n in scrape.numbers.items()})
        return [f"{exporter}: {each}" for each in wrong]

    def compare(self, scrapes: Mapping[str, Scrape]) -> Verdict:
        """Compare scrapes of all exporters after everything was processed."""
        verdict = Verdict()
        for exporter, scrape in scrapes.items():
            verdict += self._compare(exporter, scrape)
        first, *others = scrapes.values()
        for other in others:
            if (first.numbers, first.check_ins) != (other.numbers, other.check_ins):
                verdict.wrong.append("the exporters show different things")
            if first.ledgers != other.ledgers:
                verdict.wrong.append("the exporters count differently")
        return verdict

    def _compare(self, exporter: str, scrape: Scrape) -> Verdict:
        verdict = Verdict(wrong=[*scrape.faults])
        for key, entity in self.entities.items():
            shown = scrape.numbers.get(key, 0)
            if entity.leaving:
                if entity.gone and shown:
                    verdict.wrong.append(f"{key} was removed and shows {shown}")
            elif shown < entity.acknowledged:
                verdict.lost.append(f"{key} shows {shown}, not {entity.acknowledged}")
            elif shown and not entity.may_end_with(shown):
                verdict.wrong.append(f"{key} shows {shown}, not {entity.acknowledged}")
        for key in scrape.numbers.keys() - self.entities.keys():
            verdict.wrong.append(f"{key} is shown and was never sent")
        for partition in range(self._partitions):
            ledger = scrape.ledgers.get(partition)
            if ledger is None:
                verdict.wrong.append(f"partition {partition} has no ledger")
            else:
                verdict += self._audit(partition, ledger)
        return Verdict(
            [f"{exporter}: {each}" for each in verdict.lost],
            [f"{exporter}: {each}" for each in verdict.wrong],
        )

    def _audit(self, partition: int, ledger: Ledger) -> Verdict:
        """Compare a ledger with the submissions: counters only grow, each attempt counts once."""
        verdict, bad = Verdict(), self.bad_frames[partition]
        acknowledged, sent = self.acknowledged[partition], self.sent[partition]
        if ledger.applied + ledger.stale < acknowledged - self.deleted[partition]:
            verdict.lost.append(f"{ledger} of {acknowledged} acknowledged")
        if ledger.read > sent + bad:
            verdict.wrong.append(f"{ledger} of {sent} sent: counted twice")
        if (ledger.dead_lettered, ledger.lost) != (bad, self.lost[partition]):
            lost = self.lost[partition]
            verdict.wrong.append(f"{ledger}, but {bad} bad frames, and {lost} were deleted unread")
        return verdict

    def _regressions(self, exporter: str, ledgers: Mapping[int, Ledger]) -> Iterator[str]:
        counted = self._counted.setdefault(exporter, {})
        for partition, ledger in ledgers.items():
            before = counted.get(partition, ledger)
            if any(now < then for now, then in zip(ledger.counts(), before.counts(), strict=True)):
                yield f"{ledger} was {before}"
            counted[partition] = ledger
        for partition in counted.keys() - ledgers.keys():
            yield f"partition {partition} is not counted any more"

    def partition(self, key: str) -> int:
        return partition_of(key.encode(), self._partitions)


def total(verdicts: Iterable[Verdict]) -> Verdict:
    return sum(verdicts, Verdict())
