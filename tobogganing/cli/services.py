"""`tobogganing run|serve|gateway|processor|exporter|secrets`: the services."""

import sys
from pathlib import Path

import click

from tobogganing.cli.settings import settings_option


@click.command()
@click.option(
    "--restore",
    default=None,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A backup to restore into an empty STATE_DIR before the services start.",
)
def run(restore: Path | None) -> None:
    """Run everything on this machine: Kafka, processor, gateway and exporter.

    Settings in the environment: PORT (8000), STATE_DIR (.state in the checkout),
    KAFKA_BOOTSTRAP_SERVERS for an existing Kafka, and PROMETHEUS=1 for a Prometheus with the alert
    rules. Ctrl-C stops everything.
    """
    from tobogganing.backup.into_local_run import BackupToRestore
    from tobogganing.devstack.run import run

    sys.exit(run(before_services=BackupToRestore(restore).restore if restore else None))


@click.command()
@settings_option("tobogganing.manager:ServeSettings")
def serve() -> None:
    """Run gateway and exporter in one process, on one port."""
    from tobogganing.manager import main

    main()


@click.command()
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1, max=64),
    help="Processes that share the port; at most one for each core is useful.",
)
@settings_option("gateway.settings:GatewaySettings")
def gateway(workers: int) -> None:
    """Run a gateway, which accepts submissions and registrations."""
    from gateway.__main__ import main

    main(workers)


@click.command()
@settings_option("processor.settings:ProcessorSettings")
def processor() -> None:
    """Run a processor, which reduces submissions to the state of each entity."""
    from processor.__main__ import main

    main()


@click.command()
@settings_option("exporter.settings:ExporterSettings")
def exporter() -> None:
    """Run an exporter, which exposes the state to Prometheus."""
    from exporter.__main__ import main

    main()


def _file(name: str, help: str) -> click.Option:
    return click.Option(
        [f"--{name}"], default=None, type=click.Path(dir_okay=False, path_type=Path), help=help
    )


@click.command(
    params=[
        click.Option(
            ["--folder"],
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder for the secrets that the environment does not set.",
        ),
        _file("metrics-token-file", "File to write METRICS_TOKEN to for Prometheus, mode 0640."),
        _file("certificate-file", "File for a new self-signed certificate and its key."),
        _file("ca-certificate-file", "File for the certificate of the CA, without its key."),
    ]
)
def secrets(
    folder: Path,
    metrics_token_file: Path | None,
    certificate_file: Path | None,
    ca_certificate_file: Path | None,
) -> None:
    """Create missing secrets as files for the services. Existing files stay unchanged."""
    from tobogganing.devstack.secrets import write_secrets

    write_secrets(folder, metrics_token_file, certificate_file, ca_certificate_file)
