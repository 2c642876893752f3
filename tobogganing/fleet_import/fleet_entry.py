"""A registration in a fleet file, and its validation. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from contract.kinds import CLIENT, HEADEND, TYPE_ALIASES, is_id, text_fault
from contract.registry import CLUSTER

MAX_URL = 2048
SHOWN = 20
"""Bad lines that are listed; the others are only counted."""


class FleetEntry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A cluster, a headend or a client; fields that its kind does not have are empty."""

    kind: str
    id: str
    name: str
    type: str = ""
    cluster_id: str = ""
    region: str = ""
    datacenter: str = ""
    headend_url: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.id}"


COLUMNS = FleetEntry.__struct_fields__

_REQUIRED = {
    CLUSTER: ("region", "datacenter"),
    HEADEND.name: ("cluster_id",),
    CLIENT.name: ("type",),
}
_OPTIONAL = {CLUSTER: ("headend_url",), HEADEND.name: (), CLIENT.name: ()}

KINDS = tuple(_REQUIRED)
"""In the order of registration: a headend needs its cluster."""
COLLECTIONS = {
    CLUSTER: "clusters",
    HEADEND.name: HEADEND.collection,
    CLIENT.name: CLIENT.collection,
}


def validation_error(entry: FleetEntry) -> str | None:
    """The reason why a gateway would refuse an entry, if it would."""
    if entry.kind not in _REQUIRED:
        return f"kind: must be one of {', '.join(KINDS)}"
    if not is_id(entry.id):
        return "id: must begin with a letter or digit; then also . _ - are allowed (128 at most)"
    required = ("name", *_REQUIRED[entry.kind])
    for column in COLUMNS[2:]:
        value = getattr(entry, column)
        if column in required and not value:
            return f"{column}: is missing"
        if value and column not in required and column not in _OPTIONAL[entry.kind]:
            return f"{column}: must be empty for a {entry.kind}"
        if value and (problem := _problem(column, value)):
            return f"{column}: {problem}"
    return None


def _problem(column: str, value: str) -> str | None:
    if column == "type":
        types = (*CLIENT.types, *TYPE_ALIASES)
        return None if value in types else f"must be one of {', '.join(types)}"
    if column == "cluster_id":
        return None if is_id(value) else "is not an id"
    if column == "headend_url":
        return (
            None if len(value) <= MAX_URL and value.isprintable() else "is too long, or not a URL"
        )
    return text_fault(value)


def from_response(kind: str, shown: dict[str, Any]) -> FleetEntry:
    """The entry for an entity that a gateway lists.

    Raises:
        KeyError: a field of its kind is missing.
    """
    values = {column: shown[column] for column in ("name", *_REQUIRED[kind])}
    values |= {column: shown[column] for column in _OPTIONAL[kind] if column in shown}
    return FleetEntry(kind, shown[f"{kind}_id"], **values)


class BadLine(NamedTuple):
    """A line that is not a valid registration, and why."""

    number: int
    fault: str


Line = tuple[int, FleetEntry] | BadLine
"""A line's number and entry."""


@dataclass
class FileCheck:
    """The result of a file's validation."""

    counts: Counter[str] = field(default_factory=Counter)
    """Entries by kind."""
    invalid_lines: list[BadLine] = field(default_factory=list)
    invalid_count: int = 0
    unknown_clusters: dict[str, int] = field(default_factory=dict)
    """Clusters that headends name and the file lacks, with the first line that names them."""

    def refuse(self, line: BadLine) -> None:
        self.invalid_count += 1
        if len(self.invalid_lines) < SHOWN:
            self.invalid_lines.append(line)


def validate(lines: Iterable[Line]) -> FileCheck:
    """Find every line that a gateway would refuse, and every repeated id."""
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
