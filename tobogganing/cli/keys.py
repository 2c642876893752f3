"""`tobogganing keys …`: the keys that tokens are signed with."""

import sys

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin
from tobogganing.output import write_document
from tobogganing.tables import ColumnTable

PATH = "/api/v1/auth/keys"


@click.group()
def keys() -> None:
    """List, rotate and remove the keys that sign tokens."""


@keys.command("list")
@with_admin
def list_all(access: ApiTarget, as_json: bool) -> None:
    """List the signing keys; with --json one document a line."""
    with access.client() as client:
        found = client.request("GET", PATH)["keys"]
    if as_json:
        for key in found:
            write_document(key, as_json)
    else:
        columns = list(dict.fromkeys(name for key in found for name in key)) or ["kid"]
        click.echo("\n".join(ColumnTable(columns).lines(found)))


@keys.command()
@with_admin
def rotate(access: ApiTarget, as_json: bool) -> None:
    """Sign with a new key from now on; tokens of the old ones stay valid."""
    with access.client() as client:
        write_document(client.request("POST", f"{PATH}/rotate"), as_json)


@keys.command()
@click.argument("kid")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@with_admin
def remove(access: ApiTarget, as_json: bool, kid: str, yes: bool) -> None:
    """Remove a signing key: tokens that it signed end. Asks before, on a terminal."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove key {kid}, and so end the tokens it signed?", abort=True, err=True)
    with access.client() as client:
        write_document(client.request("DELETE", f"{PATH}/{kid}", about=f"key {kid}"), as_json)
