"""`remove` and `revoke`: of entities by their ids, or of those that options choose."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from contract.entity import entity_key
from contract.kinds import KINDS
from service.plural import counted
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import yes_option
from tobogganing.cli.resource_specs import ResourceSpec, check_ids, given, option, resource_command
from tobogganing.errors import LocalError
from tobogganing.output import write_document, write_note

NAMED = 5
"""Entities that a confirmation names."""


def remove_command(spec: ResourceSpec) -> click.Command:
    def remove(
        api: ApiTarget,
        as_json: bool,
        ids: Sequence[str],
        yes: bool,
        never_reported: bool = False,
        **filters: Any,
    ) -> None:
        wanted = given(filters)
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
    ids = click.argument("ids", nargs=-1, callback=check_ids, metavar="[ID]...")
    help = f"{verb} {spec.collection}. Asks for confirmation on a terminal."
    if spec.kind not in KINDS:
        return resource_command(spec.remove_command, help, remove, ids, yes_option)
    help = f"""{verb} {spec.collection} and their series, by id or by options.

    Asks for confirmation; for ids only on a terminal.
    """
    name = option("name", "Only those whose name contains this text.")
    return resource_command(
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
        # Rows are read after the list, so an entity that has reported since then is not removed.
        from tobogganing.cli.kafka import on_kafka
        from tobogganing.never_reported import reported_keys

        reported = on_kafka(reported_keys)
        ids = [id for id in ids if entity_key(spec.kind, id) not in reported]
    if ids and not yes:
        first = ", ".join(ids[:NAMED]) + (", …" if len(ids) > NAMED else "")
        what = f"{counted(len(ids), spec.kind)} ({first})"
        click.confirm(f"Remove {what}?", abort=True, err=True)
    remove_entries(api, as_json, len(ids), lambda: (FleetEntry(spec.kind, id, "") for id in ids))
