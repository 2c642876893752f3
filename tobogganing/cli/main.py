"""The command line. Each command imports only what it runs."""

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from tobogganing.cli.backup import backup, restore
from tobogganing.cli.certs import certs
from tobogganing.cli.dead_letters import dead_letters
from tobogganing.cli.fleet import fleet
from tobogganing.cli.history import history
from tobogganing.cli.keys import keys
from tobogganing.cli.ledger import ledger
from tobogganing.cli.options import admin_token_option, url_option
from tobogganing.cli.plan import plan
from tobogganing.cli.resources import ENTITY_GROUPS
from tobogganing.cli.tokens import tokens
from tobogganing.errors import LocalError


class _CliErrorGroup(click.Group):
    """Shows what the user can repair as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LocalError as error:
            shown = click.ClickException(str(error))
            shown.exit_code = error.status
            raise shown from None


@click.group(cls=_CliErrorGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Metrics of clients and headends, through Kafka to Prometheus.

    The services take their settings from the environment.
    """


@main.command()
def run() -> None:
    """Run everything on this machine: Kafka, processor, gateway and exporter.

    PORT (8000), STATE_DIR (.state in the checkout) and KAFKA_BOOTSTRAP_SERVERS (then no Kafka is
    started) can be set in the environment. Ctrl-C stops everything.
    """
    from tobogganing.devstack.run import run

    sys.exit(run())


def _call(module: str, function: str = "main") -> None:
    getattr(importlib.import_module(module), function)()


@main.command()
def serve() -> None:
    """Run gateway and exporter in one process, on one port."""
    _call("tobogganing.manager")


@main.command()
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1, max=64),
    help="Processes that share the port; one a core is enough.",
)
def gateway(workers: int) -> None:
    """Run a gateway: takes submissions and registrations."""
    importlib.import_module("gateway.__main__").main(workers)


@main.command()
def processor() -> None:
    """Run a processor: folds submissions into the state of each entity."""
    _call("processor.__main__")


@main.command()
def exporter() -> None:
    """Run an exporter: shows the state to Prometheus."""
    _call("exporter.__main__")


@main.command()
def topics() -> None:
    """Create the topics that are missing, and check the others."""
    _call("tobogganing.topics")


@main.command()
@click.option(
    "--folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep those that the environment does not set.",
)
@click.option(
    "--metrics-token-file",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write METRICS_TOKEN for Prometheus to read, with mode 0640.",
)
@click.option(
    "--certificate-file",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to make a self-signed certificate with its key, unless one is there.",
)
def secrets(folder: Path, metrics_token_file: Path | None, certificate_file: Path | None) -> None:
    """Make the secrets that are not there yet, as files for the services to read."""
    main = importlib.import_module("tobogganing.devstack.secret_files").main
    main(folder, metrics_token_file, certificate_file)


@main.command()
@url_option
@click.option("--clients", default=100, show_default=True, type=click.IntRange(min=0))
@click.option("--headends", default=5, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--interval",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between two submissions of one entity.",
)
@click.option(
    "--duration",
    default=None,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds to run; until Ctrl-C if not given.",
)
@click.option("--seed", default=None, type=int, help="Play the same fleet again.")
@admin_token_option
def simulate(
    url: str,
    clients: int,
    headends: int,
    interval: float,
    duration: float | None,
    seed: int | None,
    admin_token_file: str | None,
) -> None:
    """Register a fleet and play it against a gateway."""
    main = importlib.import_module("tobogganing.simulator.simulate").main
    main(
        url=url,
        clients=clients,
        headends=headends,
        interval=interval,
        duration=duration,
        seed=seed,
        admin_token_file=admin_token_file,
    )


for group in (
    *ENTITY_GROUPS,
    tokens,
    keys,
    certs,
    fleet,
    ledger,
    history,
    dead_letters,
    backup,
    restore,
    plan,
):
    main.add_command(group)
