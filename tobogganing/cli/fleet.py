"""`tobogganing fleet …`: everything that is registered, from and to files."""

from pathlib import Path

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin

_format = click.option(
    "--format",
    type=click.Choice(["csv", "ndjson"]),
    default=None,
    help="Default: what the extension of FILE says.",
)


@click.group()
def fleet() -> None:
    """Register many at once, or write down what is registered.

    A file is CSV with a heading, or NDJSON: kind (cluster, headend or client), id, name; type of a
    client; cluster_id of a headend; region, datacenter and optionally headend_url of a cluster.
    """


@fleet.command("import")
@click.argument("file")
@_format
@click.option(
    "--credentials",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to append the API keys, mode 0600: .csv is CSV, else NDJSON. Default: stdout.",
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
    access: ApiTarget,
    as_json: bool,
    file: str,
    format: str | None,
    credentials: Path | None,
    connections: int,
) -> None:
    """Register all that FILE names, `-` for stdin.

    The whole file is checked first. What is registered already is counted and left as it is, so
    an import that was interrupted or killed goes on when it is started again, with the same
    --credentials: it loses no key.
    """
    from tobogganing.fleet_import import import_fleet

    import_fleet.main(
        access,
        as_json,
        file=file,
        format=format,
        credentials=credentials,
        connections=connections,
    )


@fleet.command()
@click.argument("file")
@_format
@with_admin
def export(access: ApiTarget, as_json: bool, file: str, format: str | None) -> None:
    """Write all that is registered to FILE, `-` for stdout; it holds no keys."""
    from tobogganing.fleet_import import export_fleet

    export_fleet.main(access, as_json, file=file, format=format)


@fleet.command()
@click.argument("file")
@_format
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@with_admin
def remove(access: ApiTarget, as_json: bool, file: str, format: str | None, yes: bool) -> None:
    """Remove all that FILE names and their series, `-` for stdin. Asks before, on a terminal.

    Only kind and id of a line count. What is not registered is counted and no fault, so a removal
    that was interrupted goes on when it is started again.
    """
    from tobogganing.fleet_import import remove_fleet

    remove_fleet.main(access, as_json, file=file, format=format, yes=yes)
