"""`tobogganing clients|headends|clusters|relays …`: what is registered, one by one."""

import secrets
import sys
from collections.abc import Callable
from typing import Any

import click

from contract.kinds import KINDS
from tobogganing.commands.access import Access, with_admin
from tobogganing.commands.answers import note, show
from tobogganing.commands.nouns import NOUNS, Noun, Option, id_of, option, text_of
from tobogganing.commands.tables import Table
from tobogganing.local.errors import LocalError


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _with(options: tuple[Option, ...], command: Callable[..., None]) -> Callable[..., None]:
    for decorate in reversed(options):
        command = decorate(command)
    return command


def _add(noun: Noun) -> click.Command:
    def add(access: Access, as_json: bool, name: str, id: str | None, **options: Any) -> None:
        # Chosen here, once, so that a retry of the request registers nothing twice.
        known = id or f"{noun.kind}-{secrets.token_hex(8)}"
        body = _given({"name": name, noun.id_field: known, **options})
        with access.manager() as manager:
            try:
                answer = manager.ask("POST", f"{noun.path}/register", body=body)
            except LocalError as error:
                if id:
                    raise
                raise LocalError(f"{error}. The id was {known}") from None
        show(answer, as_json)
        if noun.has_key and sys.stdout.isatty():
            note("The key is shown this once.")

    command = _with(
        (
            click.argument("name", callback=text_of),
            option("id", "Made up where it is left out.", id=True),
            *noun.add,
            with_admin,
        ),
        add,
    )
    return click.command("add", help=f"Register a {noun.kind}.")(command)


def _list(noun: Noun) -> click.Command:
    def list_all(
        access: Access, as_json: bool, limit: int | None, name: str | None, **options: Any
    ) -> None:
        query = _given({"name": name, **options})
        if limit is not None:
            query["limit"] = str(min(limit, 1000))
        table, left = Table(noun.columns), limit
        with access.manager() as manager:
            for page in manager.pages(noun.path, noun.collection, query):
                rows = page[noun.collection][:left]
                if as_json:
                    for row in rows:
                        show(row, as_json)
                else:
                    click.echo("\n".join(table.lines(rows)))
                if left is not None:
                    left -= len(rows)
                    if left == 0:
                        return

    command = _with(
        (
            option("name", "Those whose name has this in it."),
            *noun.filters,
            click.option(
                "--limit", default=None, type=click.IntRange(min=1), help="So many at most."
            ),
            with_admin,
        ),
        list_all,
    )
    help = f"List the {noun.collection} by id; with --json one document a line."
    return click.command("list", help=help)(command)


def _show(noun: Noun) -> click.Command:
    def show_one(access: Access, as_json: bool, id: str) -> None:
        with access.manager() as manager:
            answer = manager.ask("GET", f"{noun.path}/{id}", about=f"{noun.kind} {id}")
        show(answer, as_json)

    command = _with((click.argument("id", callback=id_of), with_admin), show_one)
    return click.command("show", help=f"Show a {noun.kind}.")(command)


def _rotate(noun: Noun) -> click.Command:
    def rotate(access: Access, as_json: bool, id: str, overlap: float) -> None:
        with access.manager() as manager:
            answer = manager.ask(
                "POST",
                f"{noun.path}/{id}/rotate-key",
                body={"overlap_seconds": overlap},
                about=f"{noun.kind} {id}",
            )
        show(answer, as_json)

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
    return click.command("rotate", help=f"Give a {noun.kind} a new API key.")(command)


def _remove(noun: Noun) -> click.Command:
    def remove(access: Access, as_json: bool, id: str, yes: bool) -> None:
        with access.manager() as manager:
            if not yes and sys.stdin.isatty():
                what = f"{noun.kind} {id}"
                known = manager.ask("GET", f"{noun.path}/{id}", about=what)
                click.confirm(f"Remove {what} ({known['name']})?", abort=True, err=True)
            answer = manager.ask("DELETE", f"{noun.path}/{id}", about=f"{noun.kind} {id}")
        show(answer, as_json)

    yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    command = _with((click.argument("id", callback=id_of), yes, with_admin), remove)
    what = f"a {noun.kind}" + (" and its series" if noun.kind in KINDS else "")
    return click.command("remove", help=f"Remove {what}. Asks before, on a terminal.")(command)


def _group(noun: Noun) -> click.Group:
    group = click.Group(noun.collection, help=f"What is registered of {noun.collection}.")
    makers = [_add, _list, _show, *([_rotate] if noun.has_key else []), _remove]
    for make in makers:
        group.add_command(make(noun))
    return group


ENTITY_GROUPS = [_group(noun) for noun in NOUNS]
