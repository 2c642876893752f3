"""`tobogganing clients|headends|clusters|relays|enrolments …`: what is registered."""

import secrets
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from contract.kinds import KINDS
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin
from tobogganing.cli.resource_specs import (
    RESOURCE_SPECS,
    Option,
    ResourceSpec,
    id_of,
    ids_of,
    option,
    text_of,
)
from tobogganing.errors import LocalError
from tobogganing.output import write_document, write_note
from tobogganing.tables import ColumnTable

if TYPE_CHECKING:  # The command line starts without it.
    from tobogganing.api_client.client import ManagerClient


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _with(options: tuple[Option, ...], command: Callable[..., None]) -> Callable[..., None]:
    for decorate in reversed(options):
        command = decorate(command)
    return command


def _add(spec: ResourceSpec) -> click.Command:
    def add(access: ApiTarget, as_json: bool, name: str, id: str | None, **options: Any) -> None:
        # Chosen here, once, so that a retry of the request registers nothing twice.
        known = id or f"{spec.kind}-{secrets.token_hex(8)}"
        body = {"name": name, spec.id_field: known, **spec.body(_given(options))}
        with access.client() as client:
            try:
                answer = client.request("POST", f"{spec.path}{spec.add_path}", body=body)
            except LocalError as error:
                if id:
                    raise
                raise LocalError(f"{error}. The id was {known}") from None
        write_document(answer, as_json)
        if sys.stdout.isatty() and (secret := {"api_key", "token"} & answer.keys()):
            write_note(f"The {secret.pop().removeprefix('api_')} is shown this once.")

    command = _with(
        (
            click.argument("name", callback=text_of),
            option("id", "Made up where it is left out.", id=True),
            *spec.add,
            with_admin,
        ),
        add,
    )
    help = f"{'Create' if spec.add_command == 'create' else 'Register'} {spec.noun}."
    return click.command(spec.add_command, help=help)(command)


def _list(spec: ResourceSpec) -> click.Command:
    def list_all(
        access: ApiTarget, as_json: bool, limit: int | None, name: str | None, **options: Any
    ) -> None:
        query = _given({"name": name, **options})
        if limit is not None:
            query["limit"] = str(min(limit, 1000))
        table, left = ColumnTable(spec.columns), limit
        with access.client() as client:
            for page in client.pages(spec.path, spec.collection, query):
                rows = page[spec.collection][:left]
                if as_json:
                    for row in rows:
                        write_document(row, as_json)
                else:
                    click.echo("\n".join(table.lines(rows)))
                if left is not None:
                    left -= len(rows)
                    if left == 0:
                        return

    command = _with(
        (
            option("name", "Those whose name has this in it."),
            *spec.filters,
            click.option(
                "--limit", default=None, type=click.IntRange(min=1), help="So many at most."
            ),
            with_admin,
        ),
        list_all,
    )
    help = f"List the {spec.collection} by id; with --json one document a line."
    return click.command("list", help=help)(command)


def _show(spec: ResourceSpec) -> click.Command:
    def show_one(access: ApiTarget, as_json: bool, id: str) -> None:
        with access.client() as client:
            answer = client.request("GET", f"{spec.path}/{id}", about=f"{spec.kind} {id}")
        write_document(answer, as_json)

    command = _with((click.argument("id", callback=id_of), with_admin), show_one)
    return click.command("show", help=f"Show {spec.noun}.")(command)


def _rotate(spec: ResourceSpec) -> click.Command:
    def rotate(access: ApiTarget, as_json: bool, id: str, overlap: float) -> None:
        with access.client() as client:
            answer = client.request(
                "POST",
                f"{spec.path}/{id}/rotate-key",
                body={"overlap_seconds": overlap},
                about=f"{spec.kind} {id}",
            )
        write_document(answer, as_json)

    command = _with(
        (
            click.argument("id", callback=id_of),
            click.option(
                "--overlap",
                default=0.0,
                type=click.FloatRange(min=0, max=7 * 86_400),
                help="Seconds that the old key stays valid. Default: it stops at once.",
            ),
            with_admin,
        ),
        rotate,
    )
    return click.command("rotate", help=f"Give a {spec.kind} a new API key.")(command)


def _remove(spec: ResourceSpec) -> click.Command:
    def remove(access: ApiTarget, as_json: bool, ids: tuple[str, ...], yes: bool) -> None:
        faults = []
        with access.client() as client:
            if not yes and sys.stdin.isatty():
                _confirm(spec, client, ids)
            for id in dict.fromkeys(ids):
                try:
                    answer = client.request(
                        "DELETE", f"{spec.path}/{id}", about=f"{spec.kind} {id}"
                    )
                except LocalError as error:
                    faults.append(str(error))
                    if len(ids) > 1:
                        write_note(f"{spec.kind} {id}: {error}")
                else:
                    write_document(answer, as_json)
        if faults:
            raise LocalError(
                faults[0] if len(ids) == 1 else f"{len(faults)} of {len(ids)} are not removed"
            )

    yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    ids = click.argument("ids", nargs=-1, required=True, callback=ids_of, metavar="ID...")
    command = _with((ids, yes, with_admin), remove)
    what = spec.collection + (" and their series" if spec.kind in KINDS else "")
    help = f"{spec.remove_command.capitalize()} {what}. Asks before, on a terminal."
    return click.command(spec.remove_command, help=help)(command)


def _confirm(spec: ResourceSpec, client: "ManagerClient", ids: Sequence[str]) -> None:
    """Ask whether these are to be removed, by name where it is one."""
    what = f"{len(ids)} {spec.collection}"
    if len(ids) == 1:
        known = client.request("GET", f"{spec.path}/{ids[0]}", about=f"{spec.kind} {ids[0]}")
        what = f"{spec.kind} {ids[0]} ({known['name']})"
    click.confirm(f"{spec.remove_command.capitalize()} {what}?", abort=True, err=True)


def _group(spec: ResourceSpec) -> click.Group:
    group = click.Group(spec.collection, help=f"What is registered of {spec.collection}.")
    makers = [_add, _list, _show, *([_rotate] if spec.has_key else []), _remove]
    for make in makers:
        group.add_command(make(spec))
    return group


ENTITY_GROUPS = [_group(spec) for spec in RESOURCE_SPECS]
