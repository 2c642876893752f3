"""`tobogganing clients|headends|clusters|relays|enrolments`: registered entities."""

import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from contract.entity import entity_key
from contract.kinds import CLIENT, HEADEND, KINDS, is_id, text_fault
from contract.registry import CLUSTER, ENROLMENT, RELAY
from service.plural import counted
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli import checkins
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import Command, Decorator, token_option, with_admin, yes_option
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write_document, write_note
from tobogganing.time_param import DurationParam

NAMED = 5
"""Entities that a confirmation names."""


def _check_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise click.BadParameter(
            "an id starts with a letter or digit, followed by letters, digits or . _ - "
            "(128 characters at most)"
        )
    return value


def _check_ids(_: click.Context, __: click.Parameter, values: Sequence[str]) -> Sequence[str]:
    for value in values:
        _check_id(_, __, value)
    return values


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


def enrolment_body(options: dict[str, Any]) -> dict[str, Any]:
    """The body of the request that creates an enrolment.

    Raises:
        click.UsageError: the options do not say what its agents are.
    """
    if ("type" in options) is ("cluster_id" in options):
        raise click.UsageError("say --type for clients, or --cluster-id for headends")
    return options | {"kind": CLIENT.name if "type" in options else HEADEND.name}


id_argument = click.argument("id", callback=_check_id)


@dataclass(frozen=True)
class ResourceSpec:
    """A kind of registered entity. `columns` are those of a list; the first is the id.

    `add_command` and `remove_command` are verbs. `body` makes the body of a request to `add_path`
    from the options that were given.
    """

    kind: str
    collection: str
    columns: tuple[str, ...]
    add: tuple[Decorator, ...]
    """Options of `add`."""
    filters: tuple[Decorator, ...]
    """Options of `list`."""
    has_key: bool = True
    add_command: str = "add"
    add_path: str = "/register"
    remove_command: str = "remove"
    body: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @property
    def noun(self) -> str:
        """One of them, with its article."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    @property
    def has_checkins(self) -> bool:
        return self.collection in checkins.COLUMNS

    @property
    def path(self) -> str:
        return f"/api/v1/{self.collection}"


_TYPES = click.Choice(CLIENT.types)
_REGION = option("region", "Only those of this region.")
_DATACENTER = option("datacenter", "Only those of this data center.")
_ENROLLED = option("enrolment-id", "Only those that enrolled with it.", id=True)

RESOURCE_SPECS = (
    ResourceSpec(
        CLIENT.name,
        CLIENT.collection,
        (CLIENT.id_label, "name", "type", "old_keys_valid_until"),
        add=(click.option("--type", required=True, type=_TYPES, help="Its platform."),),
        filters=(
            click.option("--type", default=None, type=_TYPES, help="Only those of this type."),
            _ENROLLED,
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
            _ENROLLED,
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
    ResourceSpec(
        ENROLMENT,
        "enrolments",
        (
            *("enrolment_id", "name", "kind", "state", "uses", "max_uses", "last_used_at"),
            *("expires_at", "id_prefix"),
        ),
        add=(
            click.option("--type", default=None, type=_TYPES, help="Its agents are such clients."),
            option("cluster-id", "Its agents are headends of this cluster.", id=True),
            click.option(
                "--max-uses",
                default=None,
                type=click.IntRange(1, 1_000_000),
                help="Agents that may register. Default: any number.",
            ),
            click.option(
                "--expires-in",
                "expires_in_seconds",
                default=None,
                type=DurationParam(),
                help="When it ends, as 12h or 7d. Default: when it is revoked.",
            ),
            option("id-prefix", "Ids of its agents begin with it.", id=True),
        ),
        filters=(),
        has_key=False,
        add_command="create",
        add_path="",
        remove_command="revoke",
        body=enrolment_body,
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
        body = {"name": name, spec.columns[0]: chosen, **spec.body(_given(options))}
        try:
            registered = api.request("POST", f"{spec.path}{spec.add_path}", body=body)
        except LocalError as error:
            if id:
                raise
            raise LocalError(f"{error}. The id was {chosen}") from None
        write_document(registered, as_json)
        if sys.stdout.isatty() and (secret := {"api_key", "token"} & registered.keys()):
            write_note(f"The {secret.pop().removeprefix('api_')} is shown only once.")

    name = click.argument("name", callback=_check_text)
    id = option("id", "Generated if left out.", id=True)
    verb = "Create" if spec.add_command == "create" else "Register"
    return _command(spec.add_command, f"{verb} {spec.noun}.", add, name, id, *spec.add)


def _list(spec: ResourceSpec) -> click.Command:
    def list_all(
        api: ApiTarget,
        as_json: bool,
        limit: int | None,
        name: str | None,
        states: Sequence[str] = (),
        since: float | None = None,
        metrics_token_file: str | None = None,
        **options: Any,
    ) -> None:
        if states or since is not None:
            filters = checkin_filters(_given({"name": name, **options}), states)
            target = checkins.exporter(api.url, metrics_token_file)
            checkins.list_checkins(target, spec.collection, filters, since, limit, as_json)
            return
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
    if spec.has_checkins:
        help += " With --state or --since, list their check-ins, the worst first."
    name = option("name", "Only those whose name contains this text.")
    limit = click.option("--limit", type=click.IntRange(min=1), help="At most this many.")
    checkin_options = checkins.OPTIONS if spec.has_checkins else ()
    return _command("list", help, list_all, name, *spec.filters, *checkin_options, limit)


def checkin_filters(options: dict[str, Any], states: Sequence[str]) -> dict[str, str]:
    """The parameters of the exporter's list for the options of `list`.

    Raises:
        click.UsageError: a filter does not work together with check-ins.
    """
    if "enrolment_id" in options:
        raise click.UsageError("--enrolment-id does not work with --state and --since")
    names = {"name": "q", "cluster_id": "cluster"}
    filters = {names.get(name, name): value for name, value in options.items()}
    return filters | ({"state": ",".join(states)} if states else {})


def _show(spec: ResourceSpec) -> click.Command:
    def show_one(
        api: ApiTarget, as_json: bool, id: str, metrics_token_file: str | None = None
    ) -> None:
        about = f"{spec.kind} {id}"
        target = checkins.exporter(api.url, metrics_token_file)
        try:
            registered = api.request("GET", f"{spec.path}/{id}", about=about)
        except LocalError as error:
            if not (spec.kind in KINDS and str(error).startswith("there is no")):
                raise
            raise LocalError(
                f"{error}{checkins.why_missing(target, spec.collection, id)}"
            ) from None
        if spec.has_checkins:
            checkins.show_checkin(target, spec.collection, id, registered, as_json)
        else:
            write_document(registered, as_json)

    if not spec.has_checkins:
        return _command("show", f"Show {spec.noun}.", show_one, id_argument)
    help = f"Show {spec.noun}: registration and check-ins"
    help += ", values, and why it is silent." if spec.kind in KINDS else "."
    return _command("show", help, show_one, id_argument, token_option("METRICS_TOKEN"))


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
    def remove(
        api: ApiTarget,
        as_json: bool,
        ids: Sequence[str],
        yes: bool,
        never_reported: bool = False,
        **filters: Any,
    ) -> None:
        wanted = _given(filters)
        if bool(ids) is bool(wanted or never_reported):
            raise click.UsageError("name ids, or choose entities by options, not both")
        if not ids:
            _remove_chosen(spec, api, as_json, yes, wanted, never_reported)
        faults = []
        with api.client() as client:
            if not yes and sys.stdin.isatty():
                what = counted(len(ids), spec.kind)
                if len(ids) == 1:
                    what = f"{spec.kind} {ids[0]}"
                    registered = client.request("GET", f"{spec.path}/{ids[0]}", about=what)
                    what += f" ({registered['name']})"
                click.confirm(f"{verb} {what}?", abort=True, err=True)
            for id in dict.fromkeys(ids):
                what = f"{spec.kind} {id}"
                try:
                    removed = client.request("DELETE", f"{spec.path}/{id}", about=what)
                except LocalError as error:
                    faults.append(str(error))
                    if len(ids) > 1:
                        write_note(f"{what}: {error}")
                else:
                    write_document(removed, as_json)
        if faults:
            left = counted(len(faults), spec.kind)
            raise LocalError(faults[0] if len(ids) == 1 else f"not removed: {left} of {len(ids)}")

    verb = spec.remove_command.capitalize()
    ids = click.argument("ids", nargs=-1, callback=_check_ids, metavar="[ID]...")
    help = f"{verb} {spec.collection}. Asks for confirmation on a terminal."
    if spec.kind not in KINDS:
        return _command(spec.remove_command, help, remove, ids, yes_option)
    help = f"""{verb} {spec.collection} and their series, by id or by options.

    Asks for confirmation; for ids only on a terminal.
    """
    name = option("name", "Only those whose name contains this text.")
    return _command(
        spec.remove_command, help, remove, ids, name, *spec.filters, _NEVER_REPORTED, yes_option
    )


_NEVER_REPORTED = click.option(
    "--never-reported",
    is_flag=True,
    help="Only those without a row: they have never reported, or not within RETENTION_HOURS. "
    "Needs the services' KAFKA_… settings.",
)


def _remove_chosen(
    spec: ResourceSpec,
    api: ApiTarget,
    as_json: bool,
    yes: bool,
    filters: dict[str, Any],
    never_reported: bool,
) -> NoReturn:
    """Remove the entities that the options choose, and exit."""
    from tobogganing.fleet_import.fleet_entry import FleetEntry
    from tobogganing.fleet_import.remove_fleet import remove_entries

    with api.client() as client:
        pages = list(client.pages(spec.path, spec.collection, filters))
    ids = [row[spec.columns[0]] for page in pages for row in page[spec.collection]]
    if never_reported and ids:
        # Rows are read after the list: who is on it and has reported since is not removed.
        from tobogganing.cli.kafka import on_kafka
        from tobogganing.never_reported import reported_keys

        reported = on_kafka(reported_keys)
        ids = [id for id in ids if entity_key(spec.kind, id) not in reported]
    if ids and not yes:
        first = ", ".join(ids[:NAMED]) + (", …" if len(ids) > NAMED else "")
        what = f"{counted(len(ids), spec.kind)} ({first})"
        click.confirm(f"Remove {what}?", abort=True, err=True)
    remove_entries(api, as_json, len(ids), lambda: (FleetEntry(spec.kind, id, "") for id in ids))


def _group(spec: ResourceSpec) -> click.Group:
    group = CommandGroup(spec.collection, help=f"Manage registered {spec.collection}.")
    for make in (_add, _list, _show, *([_rotate] if spec.has_key else []), _remove):
        group.add_command(make(spec))
    return group


ENTITY_GROUPS = [_group(spec) for spec in RESOURCE_SPECS]
