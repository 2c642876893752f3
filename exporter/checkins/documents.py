"""The JSON documents of check-ins. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from contract.kinds import CLIENT, HEADEND, replace_refused
from contract.registry import CLUSTER
from exporter.checkins.listing import Group, Page, View
from exporter.checkins.query import Query
from exporter.checkins.sample import parse_rendered
from exporter.checkins.state import ONLINE, STATES
from exporter.state.columns import ANOMALOUS, EXPIRED, REGISTERED, SEEN
from exporter.state.store import StateStore
from exporter.thresholds import Thresholds

Document = dict[str, Any]


def moment(seconds: float | None) -> str | None:
    """Format a time in seconds since the epoch as RFC 3339, None for a time that is not known."""
    if not seconds:
        return None
    try:
        text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None
    return text.replace("+00:00", "Z")


def item(view: View, index: int, kind: str, store: StateStore | None = None) -> Document:
    """Return one entity of a list; with a `store`, also its values and rates."""
    snapshot = view.snapshot
    key = snapshot.keys[index]
    assert key is not None
    flags = int(snapshot.flags[index])
    last = float(snapshot.last[index]) if flags & SEEN else None
    document: Document = {
        "kind": kind,
        "id": key.partition(b":")[2].decode(),
        "name": replace_refused(snapshot.names[index]),
        "state": STATES[int(view.states[index])],
        "last_check_in": moment(last),
        "age_seconds": None if last is None else round(view.as_of - last, 3),
        "registered": bool(flags & REGISTERED),
        "anomalous": bool(flags & ANOMALOUS),
        "expired": flags & SEEN == EXPIRED,
    }
    for label, codes in snapshot.groups.items():
        document[label] = replace_refused(snapshot.group_values[label][int(codes[index])])
    if kind == CLIENT.name:
        document["headless"] = document["headless"] == "true"
    if kind == CLUSTER:
        del document["cluster"]
    elif store is not None:
        table = store.table(kind)
        values = parse_rendered(kind, table.rendered(key)).values
        document["rates"] = table.rates(key)
        values.pop("last_check_in", None)
        document["values"] = values
    return document


def items(
    view: View, indexes: Iterable[int], kind: str, store: StateStore | None = None
) -> list[Document]:
    """Return entities of a list, except those that were removed since."""
    keys = view.snapshot.keys
    return [item(view, index, kind, store) for index in indexes if keys[index] is not None]


def overview(
    clients: View, headends: View, thresholds: Mapping[str, Thresholds], status: Document
) -> Document:
    """Return the counts, with the product's names for its totals."""
    counts = {CLIENT.name: clients.counts(), HEADEND.name: headends.counts()}
    totals = {kind: sum(numbers) for kind, numbers in counts.items()}
    headless = clients.count("headless", "true")
    return {
        **status,
        "total_clients": totals[CLIENT.name],
        "online_clients": counts[CLIENT.name][ONLINE],
        "headless_clients": headless,
        "gui_clients": totals[CLIENT.name] - headless,
        "total_headends": totals[HEADEND.name],
        "online_headends": counts[HEADEND.name][ONLINE],
        "states": {
            f"{kind}s": dict(zip(STATES, numbers, strict=True)) for kind, numbers in counts.items()
        },
        "anomalies": {
            f"{CLIENT.name}s": clients.anomalous(),
            f"{HEADEND.name}s": headends.anomalous(),
        },
        "thresholds": {
            f"{kind}s": {"online_seconds": each.online, "late_seconds": each.late}
            for kind, each in thresholds.items()
        },
    }


def list_document(view: View, page: Page, query: Query, store: StateStore) -> Document:
    """Return a page of a list."""
    return {
        "kind": query.collection,
        "matches": page.total,
        "next": None if page.next is None else str(page.next),
        "items": items(view, page.indexes, query.kind, store),
    }


def group_documents(groups: Iterable[Group]) -> list[Document]:
    return [
        {
            "value": replace_refused(group.value),
            "total": group.total,
            **dict(zip(STATES, group.counts, strict=True)),
            "silent_since": moment(group.silent_since),
        }
        for group in groups
    ]
