"""The command line. Each command imports only what it runs."""

import sys
from pathlib import Path

import click

from tobogganing.cli.backup import backup, restore
from tobogganing.cli.credentials import certs, keys, tokens
from tobogganing.cli.dead_letters import dead_letters
from tobogganing.cli.fleet import fleet
from tobogganing.cli.history import history
from tobogganing.cli.ledger import ledger
from tobogganing.cli.options import token_option, url_option
from tobogganing.cli.plan import plan
from tobogganing.cli.resources import ENTITY_GROUPS
from tobogganing.cli.status import status
from tobogganing.cli.topic_logs import anomalies, audit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Metrics of clients and headends, through Kafka to Prometheus.

    The services read their settings from the environment.
    """


for command in (
    *(*ENTITY_GROUPS, tokens, keys, certs, fleet),
    *(status, ledger, history, dead_letters, audit, anomalies, backup, restore, plan),
):
    main.add_command(command)


@main.command()
def run() -> None:
    """Run everything on this machine: Kafka, processor, gateway and exporter.

    Settings in the environment: PORT (8000), STATE_DIR (.state in the checkout), and
    KAFKA_BOOTSTRAP_SERVERS for an existing Kafka. Ctrl-C stops everything.
    """
    from tobogganing.devstack.run import run

    sys.exit(run())


@main.command()
def serve() -> None:
    """Run gateway and exporter in one process, on one port."""
    from tobogganing.manager import main

    main()


@main.command()
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1, max=64),
    help="Processes that share the port; at most one for each core is useful.",
)
def gateway(workers: int) -> None:
    """Run a gateway, which accepts submissions and registrations."""
    from gateway.__main__ import main

    main(workers)


@main.command()
def processor() -> None:
    """Run a processor, which reduces submissions to the state of each entity."""
    from processor.__main__ import main

    main()


@main.command()
def exporter() -> None:
    """Run an exporter, which exposes the state to Prometheus."""
    from exporter.__main__ import main

    main()


@main.command()
def topics() -> None:
    """Create missing topics, and check the existing ones."""
    from tobogganing.topics import main

    main()


def _file(name: str, help: str) -> click.Option:
    return click.Option(
        [f"--{name}"], default=None, type=click.Path(dir_okay=False, path_type=Path), help=help
    )


@main.command(
    params=[
        click.Option(
            ["--folder"],
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder for the secrets that the environment does not set.",
        ),
        _file("metrics-token-file", "File to write METRICS_TOKEN to for Prometheus, mode 0640."),
        _file("certificate-file", "File for a new self-signed certificate and its key."),
    ]
)
def secrets(folder: Path, metrics_token_file: Path | None, certificate_file: Path | None) -> None:
    """Create missing secrets as files for the services. Existing files stay unchanged."""
    from tobogganing.devstack.secrets import write_secrets

    write_secrets(folder, metrics_token_file, certificate_file)


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
    help="Seconds to run. Default: until Ctrl-C.",
)
@click.option("--seed", default=None, type=int, help="Simulate the same fleet again.")
@token_option("ADMIN_TOKEN")
def simulate(
    url: str,
    clients: int,
    headends: int,
    interval: float,
    duration: float | None,
    seed: int | None,
    admin_token_file: str | None,
) -> None:
    """Register a simulated fleet and submit for it."""
    from tobogganing.simulator.simulate import main

    main(url, clients, headends, interval, duration, seed, admin_token_file)
