"""`tobogganing tokens …`: what headends and clients get for their API keys."""

import sys

import click

from contract.kinds import KINDS
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin, without_admin
from tobogganing.errors import LocalError
from tobogganing.output import write_document

node_type = click.Choice(list(KINDS))


@click.group()
def tokens() -> None:
    """Issue and revoke tokens."""


@tokens.command()
@click.argument("node_type", type=node_type)
@click.argument("node_id")
@click.option(
    "--api-key-file",
    type=click.File(encoding="utf-8"),
    help="File with the node's API key, `-` for stdin. Default: it is asked for.",
)
@without_admin
def issue(
    access: ApiTarget,
    as_json: bool,
    node_type: str,
    node_id: str,
    api_key_file: click.utils.LazyFile,
) -> None:
    """Get a token for a node's API key."""
    if api_key_file is not None:
        api_key = api_key_file.read().strip()
    elif sys.stdin.isatty():
        api_key = click.prompt("API key", hide_input=True, err=True).strip()
    else:
        raise LocalError("no API key: name its file with --api-key-file, `-` for stdin")
    body = {"node_id": node_id, "node_type": node_type, "api_key": api_key}
    with access.client() as client:
        write_document(client.request("POST", "/api/v1/auth/token", body=body), as_json)


@tokens.command()
@click.argument("node_type", type=node_type, required=False)
@click.argument("node_id", required=False)
@click.option("--jti", help="One token, by this claim of it.")
@with_admin
def revoke(
    access: ApiTarget, as_json: bool, node_type: str | None, node_id: str | None, jti: str | None
) -> None:
    """Revoke all tokens of a node, or one by its --jti."""
    if (node_id is None) == (jti is None):
        raise click.UsageError("name a node (as `headend ID`), or one token with --jti")
    body = {"jti": jti} if jti else {"node_id": node_id, "node_type": node_type}
    with access.client() as client:
        answer = client.request(
            "POST",
            "/api/v1/auth/revoke",
            body=body,
            about=f"{node_type or 'token'} {node_id or jti}",
        )
    write_document(answer, as_json)
