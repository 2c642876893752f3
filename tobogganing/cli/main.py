"""The command line. Each command imports only what it runs."""

import os
import sys
import traceback
from typing import NoReturn

import click
from cloup import Section

from tobogganing.cli.backup import backup, restore
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.credentials import certs, keys, tokens
from tobogganing.cli.dead_letters import dead_letters
from tobogganing.cli.fleet import fleet
from tobogganing.cli.history import history
from tobogganing.cli.ledger import ledger
from tobogganing.cli.local_kafka import kafka
from tobogganing.cli.plan import plan
from tobogganing.cli.resources import ENTITY_GROUPS
from tobogganing.cli.services import exporter, gateway, processor, run, secrets, serve
from tobogganing.cli.simulate import simulate
from tobogganing.cli.status import status
from tobogganing.cli.topic_logs import anomalies, audit
from tobogganing.cli.topics import topics
from tobogganing.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SOFTWARE_ERROR

SECTIONS = (
    Section("Run", (run, kafka, simulate, plan)),
    Section("Services", (serve, gateway, processor, exporter, topics, secrets)),
    Section("Fleet", (*ENTITY_GROUPS, fleet, tokens, keys, certs)),
    Section("Look", (status, ledger, audit, anomalies)),
    Section("Repair", (dead_letters, history, backup, restore)),
)

EXIT_STATUS = (
    "Exit status: 0 done, 1 failed or refused, 2 wrong usage or settings, 70 internal error, "
    "130 interrupted."
)


@click.group(cls=CommandGroup, sections=SECTIONS, is_root=True, epilog=EXIT_STATUS)
@click.version_option(package_name="tobogganing-metrics", prog_name="tobogganing")
def cli() -> None:
    """Metrics of clients and headends, through Kafka to Prometheus.

    The services read their settings from the environment. The options of the address may also be
    given after the subcommand.
    """


def main() -> NoReturn:
    """Run the command line, and exit with the status that docs/cli.md lists."""
    if "_TOBOGGANING_COMPLETE" in os.environ:
        import tobogganing.cli.completion  # noqa: F401 (registers the scripts)
    try:
        sys.exit(cli.main(prog_name="tobogganing", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:
        click.echo("Aborted!", err=True)
        interrupted = isinstance(error.__cause__, KeyboardInterrupt)
        sys.exit(EXIT_INTERRUPTED if interrupted else EXIT_FAILED)
    except Exception:  # anything else is a bug, which has a status of its own
        traceback.print_exc()
        sys.exit(EXIT_SOFTWARE_ERROR)
