"""Looking through a whole fleet before any of it is registered. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from contract.registry import CLUSTER
from tobogganing.fleet_import.fleet_entry import validation_error
from tobogganing.fleet_import.fleet_file import BadLine, Line

SHOWN = 20
"""Bad lines that are shown; the others are counted."""


@dataclass
class FileCheck:
    """What a file holds."""

    counts: Counter[str] = field(default_factory=Counter)
    """Kind -> entries."""
    invalid_lines: list[BadLine] = field(default_factory=list)
    """The first of the bad lines."""
    invalid_count: int = 0
    unknown_clusters: dict[str, int] = field(default_factory=dict)
    """Cluster that is named and not in the file -> the first line that names it."""

    def refuse(self, line: BadLine) -> None:
        self.invalid_count += 1
        if len(self.invalid_lines) < SHOWN:
            self.invalid_lines.append(line)


def validate(lines: Iterable[Line]) -> FileCheck:
    """Find every line that a gateway would refuse, and every second one of an id."""
    found = FileCheck()
    seen: dict[str, int] = {}
    for line in lines:
        if isinstance(line, BadLine):
            found.refuse(line)
            continue
        number, entry = line
        if problem := validation_error(entry):
            found.refuse(BadLine(number, problem))
        elif (before := seen.setdefault(entry.key, number)) != number:
            found.refuse(BadLine(number, f"id: {entry.key} is in line {before} already"))
        else:
            found.counts[entry.kind] += 1
            if entry.cluster_id:
                found.unknown_clusters.setdefault(entry.cluster_id, number)
    for cluster_id in list(found.unknown_clusters):
        if f"{CLUSTER}:{cluster_id}" in seen:
            del found.unknown_clusters[cluster_id]
    return found
