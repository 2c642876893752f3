"""Fits a line to a process's measurements and checks whether it rises. Pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

WARM_UP = 0.2
"""Fraction of the time at its start in which a process may grow: caches and pools fill."""
MEMORY_RISE, MEMORY_SHARE = 8.0, 0.05
"""Megabytes that memory may rise by afterwards, or this fraction of it if that is more."""
FILES_RISE = 5.0
"""Number by which open files may rise afterwards."""
BOUNDED = "Kafka"
"""Its memory is not judged: Java's heap grows to its configured size."""


class SoakSample(NamedTuple):
    """Memory (MB) and open files of each process at a time in seconds."""

    at: float
    memory: Mapping[str, float]
    files: Mapping[str, int]


class Trend(NamedTuple):
    """The line through one process's measurements after the warm-up.

    `rise` is the difference between its end and its start; `bound` is the maximum, None if it is
    not judged.
    """

    process: str
    what: str
    mean: float
    an_hour: float
    rise: float
    bound: float | None

    @property
    def is_flat(self) -> bool:
        return self.bound is None or self.rise <= self.bound

    def row(self) -> tuple[str, ...]:
        bound = "-" if self.bound is None else f"+{self.bound:.1f}"
        verdict = "not judged" if self.bound is None else "flat" if self.is_flat else "NOT FLAT"
        figures = (f"{self.mean:.1f}", f"{self.an_hour:+.1f}", f"{self.rise:+.1f}", bound)
        return (self.process, self.what, *figures, verdict)


HEAD = ("process", "what", "mean", "slope an hour", "rise", "may rise", "verdict")


def trends(samples: Sequence[SoakSample]) -> Iterator[Trend]:
    """Yield the trends of memory and open files of every process after the warm-up.

    Raises:
        ValueError: there are too few samples for a line.
    """
    began, ended = samples[0].at, samples[-1].at
    rest = [each for each in samples if each.at >= began + WARM_UP * (ended - began)]
    for process in samples[0].memory:
        memory = _line(process, "memory, MB", [(s.at, s.memory[process]) for s in rest])
        bound = max(MEMORY_RISE, MEMORY_SHARE * memory.mean)
        yield memory._replace(bound=None if process == BOUNDED else bound)
        files = _line(process, "open files", [(s.at, float(s.files[process])) for s in rest])
        yield files._replace(bound=FILES_RISE)


def _line(process: str, what: str, points: Sequence[tuple[float, float]]) -> Trend:
    if len(points) < 3:
        raise ValueError(f"{len(points)} samples of {process} make no line")
    moments, values = zip(*points, strict=True)
    slope = statistics.linear_regression(moments, values).slope
    rise = slope * (moments[-1] - moments[0])
    return Trend(process, what, statistics.mean(values), slope * 3600, rise, None)
