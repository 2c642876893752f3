"""`tobogganing fleet`: all registered entities, to and from files."""

from pathlib import Path

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin

_format = click.option(
    "--format",
    type=click.Choice(["csv", "ndjson"]),
    default=None,
    help="Default: by the extension of FILE.",
)


@click.group()
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
    default=256,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Concurrent registrations.",
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
    interrupted import continues when it is started again with the same --credentials.
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
