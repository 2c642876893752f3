"""`tobogganing clients|headends|clusters|relays …`: what is registered, one by one."""

import secrets
import sys
from collections.abc import Callable
from typing import Any

import click

from contract.kinds import KINDS
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin
from tobogganing.cli.resource_specs import (
    RESOURCE_SPECS,
    Option,
    ResourceSpec,
    id_of,
    option,
    text_of,
)
from tobogganing.errors import LocalError
from tobogganing.output import write_document, write_note
from tobogganing.tables import ColumnTable


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
        body = _given({"name": name, spec.id_field: known, **options})
        with access.client() as client:
            try:
                answer = client.request("POST", f"{spec.path}/register", body=body)
            except LocalError as error:
                if id:
                    raise
                raise LocalError(f"{error}. The id was {known}") from None
        write_document(answer, as_json)
        if spec.has_key and sys.stdout.isatty():
            write_note("The key is shown this once.")

    command = _with(
        (
            click.argument("name", callback=text_of),
            option("id", "Made up where it is left out.", id=True),
            *spec.add,
            with_admin,
        ),
        add,
    )
    return click.command("add", help=f"Register a {spec.kind}.")(command)


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
    return click.command("show", help=f"Show a {spec.kind}.")(command)


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
    def remove(access: ApiTarget, as_json: bool, id: str, yes: bool) -> None:
        with access.client() as client:
            if not yes and sys.stdin.isatty():
                what = f"{spec.kind} {id}"
                known = client.request("GET", f"{spec.path}/{id}", about=what)
                click.confirm(f"Remove {what} ({known['name']})?", abort=True, err=True)
            answer = client.request("DELETE", f"{spec.path}/{id}", about=f"{spec.kind} {id}")
        write_document(answer, as_json)

    yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    command = _with((click.argument("id", callback=id_of), yes, with_admin), remove)
    what = f"a {spec.kind}" + (" and its series" if spec.kind in KINDS else "")
    return click.command("remove", help=f"Remove {what}. Asks before, on a terminal.")(command)


def _group(spec: ResourceSpec) -> click.Group:
    group = click.Group(spec.collection, help=f"What is registered of {spec.collection}.")
    makers = [_add, _list, _show, *([_rotate] if spec.has_key else []), _remove]
    for make in makers:
        group.add_command(make(spec))
    return group


ENTITY_GROUPS = [_group(spec) for spec in RESOURCE_SPECS]
