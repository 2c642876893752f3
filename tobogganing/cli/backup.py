"""`tobogganing backup` and `restore`: an installation's state, to and from a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.plural import counted
from tobogganing.cli.options import json_option
from tobogganing.errors import LocalError
from tobogganing.output import Progress, write, write_document, write_note

if TYPE_CHECKING:  # The command line starts without them.
    from service.config.settings import KafkaSettings
    from tobogganing.backup.create import BackupReport
    from tobogganing.backup.restore import RestoreReport

_registry = click.option("--registry", is_flag=True, help="Only the registry, without rows.")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_registry
@click.option(
    "--drained",
    is_flag=True,
    help="Close the topic of submissions, and fail unless the rows include everything accepted.",
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
    """Write the registry and all rows to FILE; `.gz` compresses it.

    Reads Kafka directly, with the services' KAFKA_… settings; without them, the Kafka of the local
    run. FILE is written completely or not at all. It has hashes of keys, no keys.
    """
    from tobogganing.backup.create import create_backup
    from tobogganing.cli.kafka import on_kafka

    if registry and drained:
        raise click.UsageError("--drained needs rows: omit --registry")

    async def run(settings: "KafkaSettings") -> "BackupReport":
        try:
            return await create_backup(
                settings, file, rows=not registry, drained=wait if drained else None
            )
        except OSError as error:
            raise _file_error(file, error) from None

    report = on_kafka(run)
    if as_json:
        write_document(report.document(), as_json)
    else:
        write(f"registry: {counted(report.footer.records, 'record')}")
        if report.header.rows:
            write(f"rows: {report.footer.rows:,}")
            counts = ", ".join(f"{name} {count:,}" for name, count in report.ledger.items())
            write(f"ledger: {counts}")
    for name, count in report.unreadable.items():
        if count:
            write_note(f"left out: {count:,} {name} that cannot be decoded")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_registry
@click.option("--check", is_flag=True, help="Only compare.")
@json_option
def restore(as_json: bool, file: Path, registry: bool, check: bool) -> None:
    """Write the missing entries of the backup FILE, and compare all of it.

    The target is set by the services' KAFKA_… settings: another prefix, another number of
    partitions, another Kafka. It creates topics. Rows are restored before a processor has started
    there. Existing entries stay unchanged: an interrupted restore can be started again. The exit
    status is 1 if an entry of FILE is missing afterwards, or a different one is there.
    """
    from tobogganing.backup.file import Backup, BackupError
    from tobogganing.backup.restore import restore
    from tobogganing.cli.kafka import on_kafka

    async def run(settings: "KafkaSettings") -> "RestoreReport":
        rows = found.header.rows and not registry
        total = (found.footer.records + (found.footer.rows if rows else 0)) * (1 if check else 2)
        with Progress("entries", total) as progress:
            return await restore(settings, found, progress, rows=rows, only_check=check)

    try:
        found = Backup(file)
        report = on_kafka(run, make_topics=not check)
    except BackupError as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        raise _file_error(file, error) from None
    if as_json:
        write_document(report.document(), as_json)
    else:
        _write_counts("registry", report.records_written, report.records.document())
        if found.header.rows and not registry:
            _write_counts("rows", report.rows_written, report.rows.document())
        for fault in report.records.faults + report.rows.faults:
            write_note(fault)
    if not report.is_good:
        sys.exit(1)


def _write_counts(what: str, written: int, counts: dict[str, int]) -> None:
    shown = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    write(f"{what}: {written:,} written; {shown or 'nothing in the file'}")


def _file_error(file: Path, error: OSError) -> LocalError:
    return LocalError(f"{file}: {error.strerror or error}")
