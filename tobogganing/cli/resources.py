"""`tobogganing clients|headends|clusters|relays|enrolments`: registered entities."""

import secrets
import sys
from collections.abc import Sequence
from typing import Any

import click

from contract.kinds import KINDS
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli import checkins
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import token_option
from tobogganing.cli.remove_resources import remove_command
from tobogganing.cli.resource_specs import (
    RESOURCE_SPECS,
    ResourceSpec,
    check_text,
    given,
    id_argument,
    option,
    resource_command,
)
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write_document, write_note


def _add(spec: ResourceSpec) -> click.Command:
    def add(api: ApiTarget, as_json: bool, name: str, id: str | None, **options: Any) -> None:
        # Chosen once, so that a repeated request cannot register two entities.
        chosen = id or f"{spec.kind}-{secrets.token_hex(8)}"
        body = {"name": name, spec.columns[0]: chosen, **spec.body(given(options))}
        try:
            registered = api.request("POST", f"{spec.path}{spec.add_path}", body=body)
        except LocalError as error:
            if id:
                raise
            raise LocalError(f"{error}. The id was {chosen}") from None
        write_document(registered, as_json)
        if sys.stdout.isatty() and (secret := {"api_key", "token"} & registered.keys()):
            write_note(f"The {secret.pop().removeprefix('api_')} is shown only once.")

    name = click.argument("name", callback=check_text)
    id = option("id", "Generated if left out.", id=True)
    verb = "Create" if spec.add_command == "create" else "Register"
    return resource_command(spec.add_command, f"{verb} {spec.noun}.", add, name, id, *spec.add)


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
            filters = checkin_filters(given({"name": name, **options}), states)
            target = checkins.exporter(api.url, metrics_token_file)
            checkins.list_checkins(target, spec.collection, filters, since, limit, as_json)
            return
        query = given({"name": name, **options})
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
    return resource_command("list", help, list_all, name, *spec.filters, *checkin_options, limit)


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
        return resource_command("show", f"Show {spec.noun}.", show_one, id_argument)
    help = f"Show {spec.noun}: registration and check-ins"
    help += ", values, and why it is silent." if spec.kind in KINDS else "."
    return resource_command("show", help, show_one, id_argument, token_option("METRICS_TOKEN"))


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
    return resource_command(
        "rotate", f"Give a {spec.kind} a new API key.", rotate, id_argument, overlap
    )


def _group(spec: ResourceSpec) -> click.Group:
    group = CommandGroup(spec.collection, help=f"Manage registered {spec.collection}.")
    for make in (_add, _list, _show, *([_rotate] if spec.has_key else []), remove_command):
        group.add_command(make(spec))
    return group


ENTITY_GROUPS = [_group(spec) for spec in RESOURCE_SPECS]
