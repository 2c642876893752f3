"""Parses a scrape of `/metrics`: the number of each entity, and the ledgers. Pure."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.kinds import KINDS

_SAMPLE = re.compile(
    r'^(tobogganing_(?:client|headend)_\w+)\{.*?(client|headend)_id="([^"]+)".*\} (\S+)$', re.M
)
_PIPELINE = re.compile(r'^tobogganing_pipeline_(\w+?)(?:_total)?\{partition="(\d+)"\} (\S+)$', re.M)
_NUMBERS = {metric.name for kind in KINDS.values() for metric in kind.metrics}
_CHECK_INS = {kind.last_check_in.name for kind in KINDS.values()}
_FAMILIES = {kind.name: len(kind.families) for kind in KINDS.values()}


class Ledger(NamedTuple):
    """The pipeline metrics of one partition."""

    partition: int
    read: int = 0
    applied: int = 0
    stale: int = 0
    late: int = 0
    dead_lettered: int = 0
    lost: int = 0

    def counts(self) -> tuple[int, ...]:
        return self[1:]

    @property
    def balances(self) -> bool:
        return self.read == self.applied + self.stale + self.late + self.dead_lettered


@dataclass
class Scrape:
    """Numbers and check-ins by entity, ledgers by partition; `faults`: inconsistencies of the
    scrape."""

    numbers: dict[str, int] = field(default_factory=dict)
    check_ins: dict[str, float] = field(default_factory=dict)
    ledgers: dict[int, Ledger] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def parse(text: str) -> Scrape:
    """Parse the text format. All families of an entity must be of one submission, each once."""
    scrape = Scrape()
    found: dict[str, list[tuple[str, float]]] = {}
    for family, kind, id, value in _SAMPLE.findall(text):
        found.setdefault(f"{kind}:{id}", []).append((family, float(value)))
    for key, samples in found.items():
        families = [family for family, _ in samples]
        numbers = {value for family, value in samples if family in _NUMBERS}
        if len(set(families)) < len(families):
            scrape.faults.append(f"{key} has two series of a family")
        elif len(families) != _FAMILIES[key.partition(":")[0]]:
            scrape.faults.append(f"{key} has only {families}")
        if len(numbers) != 1:
            scrape.faults.append(f"{key} shows several submissions at once: {sorted(numbers)}")
        scrape.numbers[key] = int(max(numbers, default=0))
        scrape.check_ins[key] = max((v for family, v in samples if family in _CHECK_INS), default=0)
    for partition, counts in _counts(text).items():
        if missing := set(Ledger._fields[1:]) - counts.keys():
            scrape.faults.append(f"partition {partition} shows no {sorted(missing)}")
        ledger = Ledger(partition, **counts)
        scrape.ledgers[ledger.partition] = ledger
        if not ledger.balances:
            scrape.faults.append(f"{ledger} does not balance")
    return scrape


def _counts(text: str) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {}
    for name, partition, value in _PIPELINE.findall(text):
        if name in Ledger._fields:
            counts.setdefault(int(partition), {})[name] = int(float(value))
    return counts
