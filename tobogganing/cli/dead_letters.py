"""`tobogganing dead-letters`: submissions and frames that could not be processed."""

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from service.plural import counted
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import Command, json_option, yes_option
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, fields, write, write_bytes, write_document, write_note
from tobogganing.time_param import TimeParam

if TYPE_CHECKING:  # The command line starts without them.
    from service.config.settings import KafkaSettings
    from tobogganing.dead_letters.dead_letter import (
        DeadLetterFilter,
        DeadLetterId,
        DeadLetterRecord,
    )

COLUMNS = ("id", "written_at", "source", "size", "reason")


@click.group("dead-letters", cls=CommandGroup)
def dead_letters() -> None:
    """List, show, replay and delete dead letters.

    Reads Kafka directly, with the services' KAFKA_… settings; without them, the Kafka of the local
    run.
    """


def _parse_id(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> "DeadLetterId | None":
    from tobogganing.dead_letters.dead_letter import DeadLetterId

    try:
        return None if text is None else DeadLetterId.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _with_filter(command: Command) -> Command:
    for add in (
        click.option("--reason", help="Only those whose reason contains this text."),
        click.option(
            "--since", type=TimeParam(), help="Only those written since then: 15m, 2h, or a date."
        ),
        click.option("--partition", type=click.IntRange(min=0), help="Only this partition."),
    ):
        command = add(command)
    return command


def _filter(partition: int | None, since: int | None, reason: str | None) -> "DeadLetterFilter":
    from tobogganing.dead_letters.dead_letter import DeadLetterFilter

    return DeadLetterFilter(partition, since, reason)


@dead_letters.command("list")
@_with_filter
@click.option("--limit", type=click.IntRange(min=1), help="At most this many.")
@json_option
def list_all(as_json: bool, limit: int | None, **wanted: Any) -> None:
    """List dead letters by partition, oldest first; with --json one document a line."""
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.dead_letter import read_dead_letters

    async def run(settings: "KafkaSettings") -> None:
        table, found = ColumnTable(COLUMNS), 0
        async for letter in read_dead_letters(settings, _filter(**wanted)):
            found += 1
            if as_json:
                write_document(letter.document(), as_json)
            else:
                table.write([letter.document() | {"source": letter.source}])
            if found == limit:
                return
        if not (found or as_json):
            table.write([])

    on_kafka(run)


@dead_letters.command("show")
@click.argument("id", callback=_parse_id)
@click.option("--raw", is_flag=True, help="Write only its data, as bytes.")
@json_option
def show_one(as_json: bool, id: "DeadLetterId", raw: bool) -> None:
    """Show one dead letter: its reason, source, times and data."""
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.dead_letter import content, pretty, read_dead_letter

    letter = on_kafka(lambda settings: read_dead_letter(settings, id))
    if raw:
        write_bytes(letter.value)
    elif as_json:
        write_document(letter.document() | content(letter.value), as_json)
    else:
        write(fields({"source": letter.source} | letter.document()))
        write("\n" + pretty(letter.value))


@dead_letters.command("replay")
@click.argument("id", callback=_parse_id, required=False)
@click.option("--all", "all_of_them", is_flag=True, help="All that match the filters.")
@_with_filter
@json_option
def replay_some(as_json: bool, id: "DeadLetterId | None", all_of_them: bool, **wanted: Any) -> None:
    """Submit the content of a dead letter again, with its first append time as timestamp.

    Repeating a replay is harmless: data older than the current row counts as stale. A dead letter
    that still cannot be decoded, or whose entity is no longer registered, is skipped; then the exit
    status is 1.
    """
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.dead_letter import read_dead_letter, read_dead_letters
    from tobogganing.dead_letters.replay import ReplayReport, replay

    if (id is None) != all_of_them or (
        id is not None and any(value is not None for value in wanted.values())
    ):
        raise click.UsageError("name one dead letter, or --all with or without filters")

    async def run(settings: "KafkaSettings") -> ReplayReport:
        if id is None:
            return await replay(settings, lambda: read_dead_letters(settings, _filter(**wanted)))
        letter = await read_dead_letter(settings, id)

        async def one() -> AsyncIterator["DeadLetterRecord"]:
            yield letter

        return await replay(settings, one)

    report = on_kafka(run)
    if as_json:
        write_document(report.document(), as_json)
    else:
        write(
            f"{counted(report.read, 'dead letter')}: {report.letters:,} sent again, "
            f"{report.copies:,} with copies only, {report.skipped:,} not sent or not completely"
        )
        write(f"{counted(report.submissions, 'submission')} sent")
        for each in report.skip_reasons:
            write_note(f"{each['id']} stays: {each['why']}")
        if report.skipped > len(report.skip_reasons):
            write_note(f"… and {report.skipped - len(report.skip_reasons):,} more")
    if report.skipped:
        sys.exit(1)


@dead_letters.command()
@click.option("--to", "last", callback=_parse_id, metavar="ID", help="This one and all before it.")
@click.option("--before", type=TimeParam(), help="Those written before: 15m, 2h, or a date.")
@click.option("--all", "all_of_them", is_flag=True, help="All existing ones.")
@yes_option
@json_option
def purge(
    as_json: bool, last: "DeadLetterId | None", before: int | None, all_of_them: bool, yes: bool
) -> None:
    """Delete dead letters permanently. Asks for confirmation without --yes.

    Kafka deletes from the start of a partition: all up to one offset, or all before a time.
    """
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.dead_letter import delete_dead_letters, offsets_before

    if [last is not None, before is not None, all_of_them].count(True) != 1:
        raise click.UsageError("specify one of --to ID, --before TIME and --all")
    found = on_kafka(lambda settings: offsets_before(settings, before))
    if last is not None:
        first, end = found.get(last.partition, (0, 0))
        if not first <= last.offset < end:
            raise LocalError(f"there is no dead letter {last}")
        found = {last.partition: (first, last.offset + 1)}
    ends = {partition: end for partition, (first, end) in found.items() if end > first}
    count = sum(end - found[partition][0] for partition, end in ends.items())
    if count:
        if not yes:
            click.confirm(
                f"Delete {counted(count, 'dead letter')} permanently?", abort=True, err=True
            )
        on_kafka(lambda settings: delete_dead_letters(settings, ends))
    if as_json:
        before_offsets = {str(partition): end for partition, end in ends.items()}
        write_document({"deleted": count, "before": before_offsets}, as_json)
    else:
        write(f"deleted {counted(count, 'dead letter')}")
