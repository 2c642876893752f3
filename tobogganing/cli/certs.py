"""`tobogganing certs …`: certificates of nodes, from the installation's own authority."""

import click

from contract.kinds import KINDS
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_admin, without_admin
from tobogganing.output import write_document


@click.group()
def certs() -> None:
    """Issue certificates to nodes."""


@certs.command()
@click.argument("node_type", type=click.Choice(list(KINDS)))
@click.argument("node_id")
@click.option(
    "--csr",
    required=True,
    type=click.File(encoding="ascii"),
    help="The node's signing request in PEM, `-` for stdin. Its private key stays with it.",
)
@with_admin
def issue(
    access: ApiTarget, as_json: bool, node_type: str, node_id: str, csr: click.utils.LazyFile
) -> None:
    """Sign a node's request; the certificate goes to stdout, in PEM."""
    body = {"node_type": node_type, "node_id": node_id, "csr": csr.read()}
    with access.client() as client:
        answer = client.request(
            "POST", "/api/v1/certs/generate", body=body, about=f"{node_type} {node_id}"
        )
    if as_json:
        write_document(answer, as_json)
    else:
        click.echo(answer["certificate"].strip())


@certs.command()
@without_admin
def ca(access: ApiTarget, as_json: bool) -> None:
    """Show the certificate of the authority, in PEM."""
    with access.client() as client:
        answer = client.request("GET", "/api/v1/certs/ca")
    if as_json:
        write_document(answer, as_json)
    else:
        click.echo(answer["ca_certificate"].strip())
