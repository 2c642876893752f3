"""`tobogganing fleet`: all registered entities, to and from files."""

from pathlib import Path

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import with_admin, yes_option

_format = click.option(
    "--format",
    type=click.Choice(["csv", "ndjson"]),
    default=None,
    help="Default: by the extension of FILE.",
)


@click.group(cls=CommandGroup)
def fleet() -> None:
    """Register a whole fleet from a file, or export it.

    A file is CSV with column names, or NDJSON: kind (cluster, headend or client), id, name; type of
    a client; cluster_id of a headend; region, datacenter and optionally headend_url of a cluster.
    """


@fleet.command("import")
@click.argument("file")
@_format
@click.option(
    "--credentials",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to append the API keys to, mode 0600: CSV for .csv, else NDJSON. Default: stdout.",
)
@click.option(
    "--connections",
    default=4,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Requests at a time, of 500 registrations each.",
)
@with_admin
def import_(
    api: ApiTarget,
    as_json: bool,
    file: str,
    format: str | None,
    credentials: Path | None,
    connections: int,
) -> None:
    """Register all entities in FILE, `-` for stdin.

    The whole file is checked first. Registered entities are counted and left unchanged, so that an
    interrupted or killed import continues when it is started again with the same --credentials,
    and loses no key.
    """
    from tobogganing.fleet_import.import_fleet import import_fleet

    import_fleet(api, as_json, file, format, credentials, connections)


@fleet.command()
@click.argument("file")
@_format
@with_admin
def export(api: ApiTarget, as_json: bool, file: str, format: str | None) -> None:
    """Write all registered entities, without their keys, to FILE, `-` for stdout."""
    from tobogganing.fleet_import.export_fleet import export_fleet

    export_fleet(api, as_json, file, format)


@fleet.command()
@click.argument("file")
@_format
@yes_option
@with_admin
def remove(api: ApiTarget, as_json: bool, file: str, format: str | None, yes: bool) -> None:
    """Remove all entities in FILE and their series, `-` for stdin.

    Only kind and id of a line are used. Entities that are not registered are counted. Asks for
    confirmation on a terminal.
    """
    from tobogganing.fleet_import.remove_fleet import remove_fleet

    remove_fleet(api, as_json, file, format, yes)
