"""Rounds: the same work for several systems in turn, disturbed alike by a noisy machine."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.load import Address, Driver, Work
from bench.processes import Meter, cores, pinned


class Checked(Work, Protocol):
    async def check(self) -> None:
        """Look afterwards at what the system made of it.

        Raises:
            WrongResultError: something was lost, or is not what it must be.
        """


@dataclass(frozen=True)
class MeasuredTarget:
    """A system under one kind of load."""

    system: str
    case: str
    address: Address
    pids: dict[str, int]
    """Processes whose CPU time counts, by name."""
    work: Callable[[int], Checked]
    """Makes work of so many submissions."""
    connections: int
    fresh: bool = False
    share: float = 1.0
    """Of a round's submissions; less for a system that would take too long."""


@dataclass
class Measurements:
    """What a target's rounds gave: `figures` by name, one value a round."""

    subject: str
    system: str
    case: str
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    @property
    def cpu(self) -> dict[str, float]:
        """Median CPU time of each process, in microseconds a submission."""
        names = [name for name in self.figures if name.startswith("cpu ")]
        return {name.removeprefix("cpu "): self.median(name) for name in names}

    def times(self, other: "Measurements", name: str) -> float:
        """How many times the other's figure this one's is."""
        return ratio(self._rounds(name), other._rounds(name))

    def _rounds(self, name: str) -> list[float]:
        """A figure round by round; `cpu` stands for all processes together."""
        if name in self.figures:
            return self.figures[name]
        parts = [values for each, values in self.figures.items() if each.startswith(f"{name} ")]
        return [sum(values) for values in zip(*parts, strict=True)]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' own ratios; infinite where all rounds were too short to measure."""
    ratios = [a / b for a, b in zip(above, below, strict=False) if b]
    return statistics.median(ratios) if ratios else math.inf


async def run_rounds(
    subject: str, targets: Sequence[MeasuredTarget], submissions: int, rounds: int
) -> list[Measurements]:
    """Let each target take so many submissions a round, after one round that only warms up.

    Meanwhile this process has the core that the servers have not.

    Raises:
        WrongResultError: an answer was wrong, or what the system holds in the end is.
    """
    found = [Measurements(subject, target.system, target.case) for target in targets]
    with pinned(cores()[1]):
        for number in range(rounds + 1):
            for target, figures in zip(targets, found, strict=True):
                count = max(1, round(submissions * target.share))
                values = await _round(target, count)
                if number > 0:
                    figures.add(**values)
    return found


async def _round(target: MeasuredTarget, count: int) -> dict[str, float]:
    work = target.work(count)
    driver = Driver(target.address, work, target.connections, target.fresh)
    meter = Meter(target.pids)
    await driver.run()
    used = meter.read()
    await work.check()
    seconds = sorted(driver.seconds)
    cpu = {f"cpu {name}": spent / count * 1e6 for name, spent in used.cpu.items()}
    return cpu | {
        "per second": count / used.seconds,
        "p50 ms": percentile(seconds, 0.5) * 1e3,
        "p99 ms": percentile(seconds, 0.99) * 1e3,
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of an ordered sequence does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
