"""`tobogganing backup` and `restore`: what an installation knows, to a file and back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tobogganing.cli.options import json_option
from tobogganing.errors import LocalError
from tobogganing.output import write_document, write_note

if TYPE_CHECKING:  # The command line starts without them.
    from service.config.settings import KafkaSettings
    from tobogganing.backup.create import BackupReport
    from tobogganing.backup.restore import RestoreReport

_registry = click.option("--registry", is_flag=True, help="The registry alone, without rows.")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_registry
@click.option(
    "--drained",
    is_flag=True,
    help="Only if no gateway writes any more, and all that was accepted is in the rows.",
)
@click.option(
    "--wait",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds that --drained waits for the processors.",
)
@json_option
def backup(as_json: bool, file: Path, registry: bool, drained: bool, wait: float) -> None:
    """Write the registry, and the newest values of all, to FILE; `.gz` compresses.

    Asks Kafka itself, with the KAFKA_… settings that the services have; without them the Kafka of
    the local run. FILE appears when it is whole. It holds no keys, but their hashes.
    """
    from tobogganing.backup.create import create_backup
    from tobogganing.cli.kafka import on_kafka

    if registry and drained:
        raise click.UsageError("--drained is about rows, and --registry leaves them out")

    async def run(settings: "KafkaSettings") -> "BackupReport":
        try:
            return await create_backup(
                settings, file, rows=not registry, drained=wait if drained else None
            )
        except OSError as error:
            raise _fault(file, error) from None

    taken = on_kafka(run)
    if as_json:
        write_document(taken.document(), as_json)
    else:
        click.echo(f"registry: {taken.end.records:,} records")
        if taken.heading.rows:
            click.echo(f"rows: {taken.end.rows:,}")
            counts = ", ".join(f"{name} {count:,}" for name, count in taken.ledger.items())
            click.echo(f"ledger: {counts}")
    for name, count in taken.unreadable.items():
        if count:
            write_note(f"{count:,} {name} cannot be read by anybody, and were left out")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_registry
@click.option("--check", is_flag=True, help="Write nothing: compare.")
@json_option
def restore(as_json: bool, file: Path, registry: bool, check: bool) -> None:
    """Write what is missing of the backup FILE, and compare all of it.

    KAFKA_… say where to, as the services there will have it: another prefix, another number of
    partitions, another Kafka. Topics are made. Rows are taken before a processor has started there.
    What is there already is left alone: a restore that was interrupted is started again. The exit
    status is 1 if something of the file is missing afterwards, or something else is there.
    """
    from tobogganing.backup.file import Backup, BackupError
    from tobogganing.backup.restore import restore
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.progress import Progress, counted

    async def run(settings: "KafkaSettings") -> "RestoreReport":
        rows = found.heading.rows and not registry
        total = (found.end.records + (found.end.rows if rows else 0)) * (1 if check else 2)
        with Progress("entries", total, sys.stderr, counted) as progress:
            return await restore(settings, found, progress, rows=rows, only_check=check)

    try:
        found = Backup(file)
        done = on_kafka(run, make_topics=not check)
    except BackupError as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        raise _fault(file, error) from None
    if as_json:
        write_document(done.document(), as_json)
    else:
        _say("registry", done.records_written, done.records.document())
        if found.heading.rows and not registry:
            _say("rows", done.rows_written, done.rows.document())
        for fault in done.records.faults + done.rows.faults:
            write_note(fault)
    if not done.is_good:
        sys.exit(1)


def _say(what: str, written: int, standings: dict[str, int]) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in standings.items() if count)
    click.echo(f"{what}: {written:,} written; {counts or 'nothing in the file'}")


def _fault(file: Path, error: OSError) -> LocalError:
    return LocalError(f"{file}: {error.strerror or error}")
