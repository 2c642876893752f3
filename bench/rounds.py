"""Rounds: the same load for several systems in turn, so that noise affects all of them."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.load import Address, Driver, Workload
from bench.processes import Meter, cores, pinned

CPU = "cpu "
"""Prefix of a process's CPU time, in microseconds a submission."""
IDLE = "% of a core "
"""Prefix of a process's CPU time without load."""


@dataclass(frozen=True)
class MeasuredTarget:
    """A system under one kind of load."""

    system: str
    case: str
    address: Address
    pids: dict[str, int]
    """The processes whose CPU time counts, by name."""
    work: Callable[[int], Workload]
    """Makes a workload of that many submissions."""
    connections: int
    fresh: bool = False
    share: float = 1.0
    """Share of a round's submissions; below 1 for a slow system."""


@dataclass
class Measurements:
    """The figures of one case by name, with one value for each round."""

    subject: str
    system: str
    case: str
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def parts(self, prefix: str = CPU) -> dict[str, float]:
        """The median of each process, of the figures that start with `prefix`."""
        names = [name for name in self.figures if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.median(name) for name in names}

    def total(self, prefix: str = CPU) -> list[float]:
        """The sum of all processes, of the figures that start with `prefix`, by round."""
        parts = [values for name, values in self.figures.items() if name.startswith(prefix)]
        return [sum(values) for values in zip(*parts, strict=True)]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios by round; infinite if no round was long enough to measure."""
    ratios = [a / b for a, b in zip(above, below, strict=False) if b]
    return statistics.median(ratios) if ratios else math.inf


async def run_rounds(
    subject: str, targets: Sequence[MeasuredTarget], submissions: int, rounds: int
) -> list[Measurements]:
    """Run every target `rounds` times, after one round that warms up.

    The load generator has the core that the servers do not have.

    Raises:
        WrongResultError: a response, or what a system holds afterwards, is wrong.
    """
    found = [Measurements(subject, target.system, target.case) for target in targets]
    with pinned(cores()[1]):
        for number in range(rounds + 1):
            for target, figures in zip(targets, found, strict=True):
                values = await _round(target, max(1, round(submissions * target.share)))
                if number > 0:
                    figures.add(**values)
    return found


async def _round(target: MeasuredTarget, count: int) -> dict[str, float]:
    work = target.work(count)
    driver = Driver(target.address, work, target.connections, target.fresh)
    meter = Meter(target.pids)
    await driver.run()
    elapsed, used = meter.read()
    await work.check()
    seconds = sorted(driver.seconds)
    return {f"cpu {name}": spent / count * 1e6 for name, spent in used.items()} | {
        "per second": count / elapsed,
        "p50 ms": percentile(seconds, 0.5) * 1e3,
        "p99 ms": percentile(seconds, 0.99) * 1e3,
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of an ordered sequence does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
