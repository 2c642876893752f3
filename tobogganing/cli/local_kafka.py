"""`tobogganing kafka`: the local run's Kafka without the services."""

import sys

import click

from tobogganing.cli.command_group import CommandGroup


@click.group(cls=CommandGroup)
def kafka() -> None:
    """The Kafka of the local run."""


@kafka.command()
def start() -> None:
    """Run Kafka alone, on the data of the local run, until Ctrl-C.

    Other commands use it from another terminal, for example `restore`. Settings in the
    environment: STATE_DIR (.state in the checkout).
    """
    from tobogganing.devstack.run import run_kafka

    sys.exit(run_kafka())
