"""`tobogganing clients|headends|clusters|relays`: registered entities, one at a time."""

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from contract.kinds import CLIENT, HEADEND, KINDS, is_id, text_fault
from contract.registry import CLUSTER, RELAY
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import Command, Decorator, with_admin, yes_option
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write_document, write_note


def _check_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise click.BadParameter(
            "an id starts with a letter or digit, followed by letters, digits or . _ - "
            "(128 characters at most)"
        )
    return value


def _check_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (fault := text_fault(value)):
        raise click.BadParameter(fault)
    return value


def scope_of(
    _: click.Context | None, __: click.Parameter | None, values: Sequence[str]
) -> str | list[str]:
    """The scope of a relay as the API expects it."""
    return "all" if list(values) == ["all"] else list(values)


def option(name: str, help: str, *, required: bool = False, id: bool = False) -> Decorator:
    check = _check_id if id else _check_text
    return click.option(f"--{name}", required=required, default=None, callback=check, help=help)


id_argument = click.argument("id", callback=_check_id)


@dataclass(frozen=True)
class ResourceSpec:
    """A kind of registered entity. `columns` are those of a list; the first is the id."""

    kind: str
    collection: str
    columns: tuple[str, ...]
    add: tuple[Decorator, ...]
    """Options of `add`."""
    filters: tuple[Decorator, ...]
    """Options of `list`."""
    has_key: bool = True

    @property
    def path(self) -> str:
        return f"/api/v1/{self.collection}"


_TYPES = click.Choice(CLIENT.types)
_REGION = option("region", "Only those of this region.")
_DATACENTER = option("datacenter", "Only those of this data center.")

RESOURCE_SPECS = (
    ResourceSpec(
        CLIENT.name,
        CLIENT.collection,
        (CLIENT.id_label, "name", "type", "old_keys_valid_until"),
        add=(click.option("--type", required=True, type=_TYPES, help="Its platform."),),
        filters=(
            click.option("--type", default=None, type=_TYPES, help="Only those of this type."),
        ),
    ),
    ResourceSpec(
        HEADEND.name,
        HEADEND.collection,
        (HEADEND.id_label, "name", "cluster_id", "region", "datacenter", "old_keys_valid_until"),
        add=(option("cluster-id", "Its cluster.", required=True, id=True),),
        filters=(
            option("cluster-id", "Only those of this cluster.", id=True),
            _REGION,
            _DATACENTER,
        ),
    ),
    ResourceSpec(
        CLUSTER,
        "clusters",
        ("cluster_id", "name", "region", "datacenter", "headends", "headend_url"),
        add=(
            option("region", "Label of its headends.", required=True),
            option("datacenter", "Label of its headends.", required=True),
            click.option("--headend-url", default=None, help="URL of its headends."),
        ),
        filters=(_REGION, _DATACENTER),
        has_key=False,
    ),
    ResourceSpec(
        RELAY,
        "relays",
        ("relay_id", "name", "scope", "old_keys_valid_until"),
        add=(
            click.option(
                "--scope",
                required=True,
                multiple=True,
                callback=scope_of,
                metavar="ID",
                help="An entity that it submits for; repeatable; or `all`.",
            ),
        ),
        filters=(),
    ),
)


def _command(name: str, help: str, callback: Command, *parameters: Decorator) -> click.Command:
    for decorate in (with_admin, *reversed(parameters)):
        callback = decorate(callback)
    return click.command(name, help=help)(callback)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _add(spec: ResourceSpec) -> click.Command:
    def add(api: ApiTarget, as_json: bool, name: str, id: str | None, **options: Any) -> None:
        # Chosen once, so that a repeated request cannot register two entities.
        chosen = id or f"{spec.kind}-{secrets.token_hex(8)}"
        body = _given({"name": name, spec.columns[0]: chosen, **options})
        try:
            registered = api.request("POST", f"{spec.path}/register", body=body)
        except LocalError as error:
            if id:
                raise
            raise LocalError(f"{error}. The id was {chosen}") from None
        write_document(registered, as_json)
        if spec.has_key and sys.stdout.isatty():
            write_note("The key is shown only once.")

    name = click.argument("name", callback=_check_text)
    id = option("id", "Generated if left out.", id=True)
    return _command("add", f"Register a {spec.kind}.", add, name, id, *spec.add)


def _list(spec: ResourceSpec) -> click.Command:
    def list_all(
        api: ApiTarget, as_json: bool, limit: int | None, name: str | None, **options: Any
    ) -> None:
        query = _given({"name": name, **options})
        if limit is not None:
            query["limit"] = str(min(limit, 1000))
        table, left = ColumnTable(spec.columns), limit
        with api.client() as client:
            for page in client.pages(spec.path, spec.collection, query):
                rows = page[spec.collection][:left]
                if as_json:
                    for row in rows:
                        write_document(row, as_json)
                else:
                    table.write(rows)
                if left is not None:
                    left -= len(rows)
                    if left == 0:
                        return

    help = f"List the {spec.collection} by id; with --json one document a line."
    name = option("name", "Only those whose name contains this text.")
    limit = click.option("--limit", type=click.IntRange(min=1), help="At most this many.")
    return _command("list", help, list_all, name, *spec.filters, limit)


def _show(spec: ResourceSpec) -> click.Command:
    def show_one(api: ApiTarget, as_json: bool, id: str) -> None:
        about = f"{spec.kind} {id}"
        write_document(api.request("GET", f"{spec.path}/{id}", about=about), as_json)

    return _command("show", f"Show a {spec.kind}.", show_one, id_argument)


def _rotate(spec: ResourceSpec) -> click.Command:
    def rotate(api: ApiTarget, as_json: bool, id: str, overlap: float) -> None:
        path, body = f"{spec.path}/{id}/rotate-key", {"overlap_seconds": overlap}
        rotated = api.request("POST", path, body=body, about=f"{spec.kind} {id}")
        write_document(rotated, as_json)

    overlap = click.option(
        "--overlap",
        default=0.0,
        type=click.FloatRange(min=0, max=7 * 86_400),
        help="Seconds that the old key stays valid. Default: it ends at once.",
    )
    return _command("rotate", f"Give a {spec.kind} a new API key.", rotate, id_argument, overlap)


def _remove(spec: ResourceSpec) -> click.Command:
    def remove(api: ApiTarget, as_json: bool, id: str, yes: bool) -> None:
        what, path = f"{spec.kind} {id}", f"{spec.path}/{id}"
        with api.client() as client:
            if not yes and sys.stdin.isatty():
                registered = client.request("GET", path, about=what)
                click.confirm(f"Remove {what} ({registered['name']})?", abort=True, err=True)
            removed = client.request("DELETE", path, about=what)
        write_document(removed, as_json)

    what = f"a {spec.kind}" + (" and its series" if spec.kind in KINDS else "")
    help = f"Remove {what}. Asks for confirmation on a terminal."
    return _command("remove", help, remove, id_argument, yes_option)


def _group(spec: ResourceSpec) -> click.Group:
    group = click.Group(spec.collection, help=f"Manage registered {spec.collection}.")
    for make in (_add, _list, _show, *([_rotate] if spec.has_key else []), _remove):
        group.add_command(make(spec))
    return group


ENTITY_GROUPS = [_group(spec) for spec in RESOURCE_SPECS]
