"""`tobogganing tokens`, `keys` and `certs`: credentials that the gateway issues."""

import sys

import click

from contract.kinds import KINDS
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import with_admin, without_token, yes_option
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write, write_document

KEYS = "/api/v1/auth/keys"
node_type_argument = click.argument("node_type", type=click.Choice(list(KINDS)))
node_id_argument = click.argument("node_id")


@click.group(cls=CommandGroup)
def tokens() -> None:
    """Issue and revoke tokens."""


@tokens.command("issue")
@node_type_argument
@node_id_argument
@click.option(
    "--api-key-file",
    type=click.File(encoding="utf-8"),
    help="File with the node's API key, `-` for stdin. Default: ask for it.",
)
@without_token
def issue_token(
    api: ApiTarget,
    as_json: bool,
    node_type: str,
    node_id: str,
    api_key_file: click.utils.LazyFile,
) -> None:
    """Issue a token for a node's API key."""
    if api_key_file is not None:
        api_key = api_key_file.read().strip()
    elif sys.stdin.isatty():
        api_key = click.prompt("API key", hide_input=True, err=True).strip()
    else:
        raise LocalError("no API key: name its file with --api-key-file, `-` for stdin")
    body = {"node_id": node_id, "node_type": node_type, "api_key": api_key}
    write_document(api.request("POST", "/api/v1/auth/token", body=body), as_json)


@tokens.command()
@click.argument("node_type", type=click.Choice(list(KINDS)), required=False)
@click.argument("node_id", required=False)
@click.option("--jti", help="One token, by its jti claim.")
@with_admin
def revoke(
    api: ApiTarget, as_json: bool, node_type: str | None, node_id: str | None, jti: str | None
) -> None:
    """Revoke all tokens of a node, or one by its --jti."""
    if (node_id is None) == (jti is None):
        raise click.UsageError("name a node (for example `headend ID`), or one token with --jti")
    body = {"jti": jti} if jti else {"node_id": node_id, "node_type": node_type}
    about = f"{node_type or 'token'} {node_id or jti}"
    write_document(api.request("POST", "/api/v1/auth/revoke", body=body, about=about), as_json)


@click.group(cls=CommandGroup)
def keys() -> None:
    """List, rotate and remove the keys that sign tokens."""


@keys.command("list")
@with_admin
def list_keys(api: ApiTarget, as_json: bool) -> None:
    """List the signing keys; with --json one document a line."""
    found = api.request("GET", KEYS)["keys"]
    if as_json:
        for key in found:
            write_document(key, as_json)
    else:
        columns = list(dict.fromkeys(name for key in found for name in key)) or ["kid"]
        ColumnTable(columns).write(found)


@keys.command()
@with_admin
def rotate(api: ApiTarget, as_json: bool) -> None:
    """Sign new tokens with a new key; tokens of the old ones stay valid."""
    write_document(api.request("POST", f"{KEYS}/rotate"), as_json)


@keys.command()
@click.argument("kid")
@yes_option
@with_admin
def remove(api: ApiTarget, as_json: bool, kid: str, yes: bool) -> None:
    """Remove a signing key, which ends its tokens. Asks for confirmation on a terminal."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove key {kid} and end the tokens that it signed?", abort=True, err=True)
    write_document(api.request("DELETE", f"{KEYS}/{kid}", about=f"key {kid}"), as_json)


@click.group(cls=CommandGroup)
def certs() -> None:
    """Issue certificates to nodes."""


@certs.command("issue")
@node_type_argument
@node_id_argument
@click.option(
    "--csr",
    required=True,
    type=click.File(encoding="ascii"),
    help="The node's certificate signing request in PEM, `-` for stdin.",
)
@with_admin
def issue_certificate(
    api: ApiTarget, as_json: bool, node_type: str, node_id: str, csr: click.utils.LazyFile
) -> None:
    """Sign a node's request; print the certificate in PEM."""
    body = {"node_type": node_type, "node_id": node_id, "csr": csr.read()}
    about = f"{node_type} {node_id}"
    issued = api.request("POST", "/api/v1/certs/generate", body=body, about=about)
    _write_pem(issued, "certificate", as_json)


@certs.command()
@without_token
def ca(api: ApiTarget, as_json: bool) -> None:
    """Print the CA's certificate in PEM."""
    _write_pem(api.request("GET", "/api/v1/certs/ca"), "ca_certificate", as_json)


def _write_pem(document: dict[str, str], field: str, as_json: bool) -> None:
    if as_json:
        write_document(document, as_json)
    else:
        write(document[field].strip())
