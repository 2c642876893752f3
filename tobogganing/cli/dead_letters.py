"""`tobogganing dead-letters …`: what could not be processed, asked of Kafka itself."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tobogganing.cli.options import json_option
from tobogganing.errors import LocalError
from tobogganing.output import write_document, write_note
from tobogganing.tables import ColumnTable, fields
from tobogganing.time_param import TimeParam

if TYPE_CHECKING:  # The command line starts without them.
    from service.config.settings import KafkaSettings
    from tobogganing.dead_letters.dead_letter import DeadLetterFilter, DeadLetterId

COLUMNS = ("id", "written_at", "source", "size", "reason")


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be processed, send it again, delete it.

    Asks Kafka itself, with the KAFKA_… settings that the services have; without them the Kafka of
    the local run.
    """


def _id(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> "DeadLetterId | None":
    from tobogganing.dead_letters.dead_letter import DeadLetterId

    try:
        return None if text is None else DeadLetterId.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _with_filter(command: Callable[..., None]) -> Callable[..., None]:
    for add in (
        click.option("--reason", help="Only those whose reason has this text in it."),
        click.option(
            "--since", type=TimeParam(), help="Only those written since: 15m, 2h, or a date."
        ),
        click.option("--partition", type=click.IntRange(min=0), help="Only those of this one."),
    ):
        command = add(command)
    return command


def _filter(partition: int | None, since: int | None, reason: str | None) -> "DeadLetterFilter":
    from tobogganing.dead_letters.dead_letter import DeadLetterFilter

    return DeadLetterFilter(partition, since, reason)


@dead_letters.command("list")
@_with_filter
@click.option("--limit", type=click.IntRange(min=1), help="So many, of each partition the oldest.")
@json_option
def list_all(as_json: bool, limit: int | None, **wanted: Any) -> None:
    """List dead letters, oldest first in each partition; with --json one document a line."""
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.reader import read_dead_letters

    async def run(settings: "KafkaSettings") -> None:
        table, left = ColumnTable(COLUMNS), limit
        async for letter in read_dead_letters(settings, _filter(**wanted)):
            document = letter.document()
            if as_json:
                write_document(document, as_json)
            else:
                row = document | {"source": letter.source}
                click.echo("\n".join(table.lines([row])))
            if left is not None:
                left -= 1
                if not left:
                    return

    on_kafka(run)


@dead_letters.command("show")
@click.argument("id", callback=_id)
@click.option("--raw", is_flag=True, help="Write the bytes alone, as they are.")
@json_option
def show_one(as_json: bool, id: "DeadLetterId", raw: bool) -> None:
    """Show one: why it is here, where from, since when, and its data."""
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.dead_letter import content, pretty
    from tobogganing.dead_letters.reader import read_dead_letter

    letter = on_kafka(lambda settings: read_dead_letter(settings, id))
    if raw:
        sys.stdout.buffer.write(letter.value)
    elif as_json:
        write_document(letter.document() | content(letter.value), as_json)
    else:
        click.echo(fields({"source": letter.source} | letter.document()))
        click.echo("\n" + pretty(letter.value))


@dead_letters.command("replay")
@click.argument("id", callback=_id, required=False)
@click.option("--all", "all_of_them", is_flag=True, help="All, or all that the filters choose.")
@_with_filter
@json_option
def replay_some(as_json: bool, id: "DeadLetterId | None", all_of_them: bool, **wanted: Any) -> None:
    """Send a dead letter's submissions again, with the time that they first came as timestamp.

    Doing it twice is harmless: what is older than what is held counts as stale. A letter that still
    cannot be read, or whose entity is not registered any more, stays: then the status is 1.
    """
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.reader import read_dead_letter, read_dead_letters
    from tobogganing.dead_letters.replay import ReplayReport, replay

    if (id is None) != all_of_them or (
        id is not None and any(value is not None for value in wanted.values())
    ):
        raise click.UsageError("name one dead letter, or --all with or without filters")

    async def run(settings: "KafkaSettings") -> ReplayReport:
        if id is None:
            return await replay(settings, lambda: read_dead_letters(settings, _filter(**wanted)))
        letter = await read_dead_letter(settings, id)

        async def one() -> Any:
            yield letter

        return await replay(settings, one)

    done = on_kafka(run)
    if as_json:
        write_document(done.document(), as_json)
    else:
        click.echo(f"sent {done.submissions:,} submissions of {done.letters:,} dead letters again")
        for each in done.skip_reasons:
            write_note(f"{each['id']} stays: {each['why']}")
        if done.skipped > len(done.skip_reasons):
            write_note(f"{done.skipped:,} stay in all")
    if done.skipped:
        sys.exit(1)


@dead_letters.command()
@click.option("--to", "last", callback=_id, metavar="ID", help="This one and those before it.")
@click.option("--before", type=TimeParam(), help="Those written before: 15m, 2h, or a date.")
@click.option("--all", "all_of_them", is_flag=True, help="All that are there now.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def purge(
    as_json: bool, last: "DeadLetterId | None", before: int | None, all_of_them: bool, yes: bool
) -> None:
    """Delete dead letters for good. Asks before, unless it is told --yes.

    Kafka deletes from the beginning of a partition: all up to one, or all before a time.
    """
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.dead_letters.reader import delete_dead_letters, offsets_before

    if [last is not None, before is not None, all_of_them].count(True) != 1:
        raise click.UsageError("say which: --to ID, --before TIME or --all")
    found = on_kafka(lambda settings: offsets_before(settings, before))
    if last is not None:
        first, end = found.get(last.partition, (0, 0))
        if not first <= last.offset < end:
            raise LocalError(f"there is no dead letter {last}")
        found = {last.partition: (first, last.offset + 1)}
    doomed = {partition: end for partition, (first, end) in found.items() if end > first}
    count = sum(end - first for first, end in found.values() if end > first)
    if count:
        if not yes:
            click.confirm(f"Delete {count:,} dead letters for good?", abort=True, err=True)
        on_kafka(lambda settings: delete_dead_letters(settings, doomed))
    if as_json:
        write_document(
            {"deleted": count, "before": {str(p): end for p, end in doomed.items()}}, as_json
        )
    else:
        click.echo(f"deleted {count:,} dead letters")
