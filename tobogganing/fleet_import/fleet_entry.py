"""One registration of a fleet, as a file holds it. Pure."""

from typing import Any

import msgspec

from contract.kinds import CLIENT, HEADEND, TYPE_ALIASES, is_id, text_fault
from contract.registry import CLUSTER

MAX_URL = 2048


class FleetEntry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A cluster, a headend or a client; what its kind does not have is empty."""

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
"""In the order of registration: a headend names its cluster."""
COLLECTIONS = {
    CLUSTER: "clusters",
    HEADEND.name: HEADEND.collection,
    CLIENT.name: CLIENT.collection,
}


def validation_error(entry: FleetEntry) -> str | None:
    """Say what a gateway would refuse, if anything."""
    if entry.kind not in _REQUIRED:
        return f"kind: must be one of {', '.join(KINDS)}"
    if not is_id(entry.id):
        return "id: must begin with a letter or digit and go on with those or . _ - (128 at most)"
    required = ("name", *_REQUIRED[entry.kind])
    for column in COLUMNS[2:]:
        value = getattr(entry, column)
        if column in required and not value:
            return f"{column}: is missing"
        if value and column not in required and column not in _OPTIONAL[entry.kind]:
            return f"{column}: a {entry.kind} has none of its own, leave it empty"
        if value and (problem := _problem(column, value)):
            return f"{column}: {problem}"
    return None


def _problem(column: str, value: str) -> str | None:
    if column == "type":
        types = (*CLIENT.types, *TYPE_ALIASES)
        return None if value in types else f"must be one of {', '.join(types)}"
    if column == "cluster_id":
        return None if is_id(value) else "is no id"
    if column == "headend_url":
        return None if len(value) <= MAX_URL and value.isprintable() else "is too long, or no URL"
    return text_fault(value)


def from_response(kind: str, shown: dict[str, Any]) -> FleetEntry:
    """The entry of what a gateway lists.

    Raises:
        KeyError: it lacks what its kind has.
    """
    values = {column: shown[column] for column in ("name", *_REQUIRED[kind])}
    values |= {column: shown[column] for column in _OPTIONAL[kind] if column in shown}
    return FleetEntry(kind, shown[f"{kind}_id"], **values)
