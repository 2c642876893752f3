"""Looking through a whole fleet before any of it is registered. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from contract.registry import CLUSTER
from tobogganing.commands.entry import fault
from tobogganing.commands.files import BadLine, Line

SHOWN = 20
"""Bad lines that are shown; the others are counted."""


@dataclass
class Check:
    """What a file holds."""

    counts: Counter[str] = field(default_factory=Counter)
    """Kind -> entries."""
    bad: list[BadLine] = field(default_factory=list)
    """The first of the bad lines."""
    bad_count: int = 0
    foreign: dict[str, int] = field(default_factory=dict)
    """Cluster that is named and not in the file -> the first line that names it."""

    def refuse(self, line: BadLine) -> None:
        self.bad_count += 1
        if len(self.bad) < SHOWN:
            self.bad.append(line)


def check(lines: Iterable[Line]) -> Check:
    """Find every line that a gateway would refuse, and every second one of an id."""
    found = Check()
    seen: dict[str, int] = {}
    for line in lines:
        if isinstance(line, BadLine):
            found.refuse(line)
            continue
        number, entry = line
        if problem := fault(entry):
            found.refuse(BadLine(number, problem))
        elif (before := seen.setdefault(entry.key, number)) != number:
            found.refuse(BadLine(number, f"id: {entry.key} is in line {before} already"))
        else:
            found.counts[entry.kind] += 1
            if entry.cluster_id:
                found.foreign.setdefault(entry.cluster_id, number)
    for cluster_id in list(found.foreign):
        if f"{CLUSTER}:{cluster_id}" in seen:
            del found.foreign[cluster_id]
    return found
