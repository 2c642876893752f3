"""`tobogganing certs …`: certificates of nodes, from the installation's own authority."""

import click

from contract.kinds import KINDS
from tobogganing.commands.access import Access, with_admin, without_admin
from tobogganing.commands.answers import show


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
    access: Access, as_json: bool, node_type: str, node_id: str, csr: click.utils.LazyFile
) -> None:
    """Sign a node's request; the certificate goes to stdout, in PEM."""
    body = {"node_type": node_type, "node_id": node_id, "csr": csr.read()}
    with access.manager() as manager:
        answer = manager.ask(
            "POST", "/api/v1/certs/generate", body=body, about=f"{node_type} {node_id}"
        )
    if as_json:
        show(answer, as_json)
    else:
        click.echo(answer["certificate"].strip())


@certs.command()
@without_admin
def ca(access: Access, as_json: bool) -> None:
    """Show the certificate of the authority, in PEM."""
    with access.manager() as manager:
        answer = manager.ask("GET", "/api/v1/certs/ca")
    if as_json:
        show(answer, as_json)
    else:
        click.echo(answer["ca_certificate"].strip())
