"""Check-ins in the terminal: what `/checkins` shows, from the exporter's API."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import Decorator, token_option
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, fields, write_document, write_note
from tobogganing.time_param import DurationParam

PATH = "/api/v1/checkins"
STATES = ("online", "late", "offline", "never", "silent")
COLUMNS = {
    "clients": ("id", "name", "state", "last_check_in", "age", "type", "headless"),
    "headends": ("id", "name", "state", "last_check_in", "age", "region", "datacenter", "cluster"),
    "clusters": ("id", "name", "state", "last_check_in", "age", "region", "datacenter"),
}
"""Columns of a list, by collection."""
PAGE = 1000
EVIDENCE_COLUMNS = ("at", "what", "count", "text", "receipt")

OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice(STATES),
        help="Only those in this state of check-ins; repeatable. `silent`: late or offline.",
    ),
    click.option(
        "--since",
        default=None,
        type=DurationParam(),
        help="Only those without a check-in for this long: 15m, 2h, 3d.",
    ),
    token_option("METRICS_TOKEN"),
)
"""Options of `list` that select by check-ins."""


def exporter(url: str, metrics_token_file: str | None) -> ApiTarget:
    return ApiTarget(url, metrics_token_file, "METRICS_TOKEN")


def listed(
    api: ApiTarget, collection: str, filters: Mapping[str, str], since: float | None
) -> Iterator[dict[str, Any]]:
    """Yield the entities of a list, the worst first.

    `since` is the minimum age of the last check-in in seconds; an entity without a check-in is
    included.

    Raises:
        LocalError: there is no response, or not from an exporter.
    """
    query = {"kind": collection, "limit": str(PAGE), **filters}
    with api.client() as client:
        while True:
            page = client.request("GET", PATH, query=query)
            if not isinstance(page.get("items"), list):
                raise LocalError(f"{api.url}{PATH} is not an exporter's response: check --url")
            for each in page["items"]:
                if since is None or each["age_seconds"] is None or each["age_seconds"] >= since:
                    yield each
            if not page.get("next"):
                return
            query["cursor"] = page["next"]


def list_checkins(
    api: ApiTarget,
    collection: str,
    filters: Mapping[str, str],
    since: float | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print a list, with `as_json` one document a line."""
    table, rows = ColumnTable(COLUMNS[collection]), []
    for number, each in enumerate(listed(api, collection, filters, since), 1):
        if as_json:
            write_document(each, as_json)
        else:
            rows.append(each | {"age": age(each["age_seconds"])})
        if number == limit:
            break
    if rows or not as_json:
        table.write(rows)


def age(seconds: float | None) -> str:
    """Format an age by its two largest units: `3 d 4 h`."""
    if seconds is None:
        return "never"
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def fetch_checkin(api: ApiTarget, collection: str, id: str) -> dict[str, Any]:
    """Return `checkin` and, except of a cluster, `why` of an entity.

    Raises:
        LocalError: there is no METRICS_TOKEN, or no response from an exporter.
    """
    if collection == "clusters":
        return {"checkin": _cluster(api, id)}
    path = f"{PATH}/{collection}/{id}"
    with api.client() as client:
        found = {"checkin": client.get_or_none(path), "why": client.get_or_none(f"{path}/why")}
    if found["why"] is None:
        raise LocalError(
            f"{api.url} has no check-in API: set --url to an exporter, the edge or `serve`"
        )
    return found


def _cluster(api: ApiTarget, id: str) -> dict[str, Any] | None:
    """Return a cluster's check-in, and how many of its headends are in each state."""
    found = [each for each in listed(api, "clusters", {"q": id}, None) if each["id"] == id]
    if not found:
        return None
    states = Counter(each["state"] for each in listed(api, "headends", {"cluster": id}, None))
    return found[0] | {"headends": dict(states)}


def write_checkin(found: Mapping[str, Any]) -> None:
    """Print state, values, and why an entity is silent."""
    checkin, why = found["checkin"], found.get("why")
    if checkin is not None:
        values = {
            each["field"]: each["value"]
            for each in checkin.get("values", ())
            if each["field"] != "last_check_in"
        }
        headends = {
            f"headends_{state}": number for state, number in checkin.get("headends", {}).items()
        }
        shown = {
            "state": checkin["state"],
            "last_check_in": checkin["last_check_in"],
            "age": age(checkin["age_seconds"]),
        }
        click.echo("\n" + fields(shown | values | headends))
    if why is None:
        return
    click.echo("\n" + fields({"why": why["text"], "next_step": why["next_step"]}))
    if why["evidence"]:
        click.echo()
        ColumnTable(EVIDENCE_COLUMNS).write(why["evidence"])
        write_note(f"Who made a change: tobogganing audit --target {why['kind']}:{why['id']}")


def show_checkin(
    api: ApiTarget, collection: str, id: str, registered: dict[str, Any], as_json: bool
) -> None:
    """Print a registration and the entity's check-in; without an exporter only the
    registration."""
    found: dict[str, Any] = {}
    fault = ""
    try:
        found = fetch_checkin(api, collection, id)
    except LocalError as error:
        fault = str(error)
    if as_json:
        write_document(registered | found, as_json)
        return
    write_document(registered, as_json)
    if found:
        write_checkin(found)
    else:
        write_note(f"Without its check-in: {fault}")


def why_missing(api: ApiTarget, collection: str, id: str) -> str:
    """Return what an exporter knows of an entity that is not registered, "" if nothing."""
    try:
        why = fetch_checkin(api, collection, id)["why"]
    except LocalError:
        return ""
    return f". {why['text']} {why['next_step']}" if why["verdict"] == "removed" else ""
