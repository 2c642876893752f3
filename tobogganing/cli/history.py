"""`tobogganing history`: which records of the submissions topic the ledgers cover."""

import sys
from typing import TYPE_CHECKING, Any

import click

from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import json_option
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write, write_document
from tobogganing.time_param import parse_time

if TYPE_CHECKING:  # Imported lazily, to keep start-up fast.
    from service.config.settings import KafkaSettings

COLUMNS = ("partition", "offset", "shift", "histories", "kafka_first", "kafka_end", "verdict")


@click.group(cls=CommandGroup)
def history() -> None:
    """Show and decide which records of the submissions topic the ledgers cover.

    Needs the services' KAFKA_… settings.
    """


@history.command("show")
@json_option
def show_histories(as_json: bool) -> None:
    """Compare each ledger with Kafka.

    The exit status is 1 if an operator must decide.
    """
    from tobogganing.cli.kafka import on_kafka

    found = on_kafka(_compare)
    if as_json:
        write_document({"partitions": found}, as_json)
    else:
        ColumnTable(COLUMNS).write(found)
        for each in found:
            if each["reason"]:
                write(f"partition {each['partition']}: {each['reason']}")
    if any(each["verdict"] == "uncertain" for each in found):
        sys.exit(1)


@history.command("begin")
@click.argument("partition", type=click.IntRange(min=0))
@click.option(
    "--at",
    required=True,
    help="The first record to count: Kafka's offset, `earliest`, `end`, or a time (its append).",
)
@json_option
def begin(as_json: bool, partition: int, at: str) -> None:
    """Begin a new history of a partition whose processor has stopped.

    Every record from --at on counts as new, every earlier one as counted. The processor continues
    within seconds.
    """
    from tobogganing.cli.kafka import on_kafka

    start, logical = on_kafka(lambda settings: _begin(settings, partition, at))
    begun = {"partition": partition, "offset": start, "logical_offset": logical}
    write_document({"status": "history_begun", **begun}, as_json)


async def _compare(settings: "KafkaSettings") -> list[dict[str, Any]]:
    from tobogganing.backup.topic_snapshot import compare_with_source, read_ledgers

    ledgers = await read_ledgers(settings, range(settings.kafka_partitions))
    return [
        {
            "partition": partition,
            "offset": ledgers[partition].next_offset - 1,
            "shift": ledgers[partition].shift,
            "histories": ledgers[partition].parted + 1,
            "kafka_first": found.first,
            "kafka_end": found.end,
            "verdict": type(verdict).__name__.lower(),
            "reason": getattr(verdict, "reason", None),
        }
        for partition, (found, verdict) in (await compare_with_source(settings, ledgers)).items()
    ]


async def _offset_at(settings: "KafkaSettings", partition: int, at: str, end: int) -> int:
    """The offset of the first record that was appended at a time or later."""
    from datetime import UTC, datetime

    from service.kafka.reader import TopicReader
    from service.kafka.topics import topics_from

    try:
        time = parse_time(at, datetime.now(UTC).timestamp())
    except (ValueError, OverflowError):
        raise LocalError(f"--at {at}: not an offset, earliest, end or a time") from None
    async with TopicReader(settings, topics_from(settings).submissions.name, [partition]) as reader:
        offset = await reader.offset_at(partition, time)
    return end if offset is None else offset


async def _begin(settings: "KafkaSettings", partition: int, at: str) -> tuple[int, int]:
    from contract.ledger import encode_ledger_row, ledger_key
    from processor.changelog.producer import ChangelogProducer
    from processor.core.source_history import Uncertain
    from processor.core.write_batch import NO_HEADERS
    from service.kafka.topics import topics_from
    from tobogganing.backup.topic_snapshot import RowSnapshot, compare_with_source

    if partition >= settings.kafka_partitions:
        raise LocalError(f"there is no partition {partition}")
    state = (await RowSnapshot.load(settings, [partition])).states[partition]
    ledger = state.ledger
    found, verdict = (await compare_with_source(settings, {partition: ledger}))[partition]
    if not isinstance(verdict, Uncertain):
        raise LocalError(
            f"partition {partition} needs no decision: its processor continues by itself"
        )
    start = {"earliest": found.first, "end": found.end}.get(at)
    if start is None:
        start = int(at) if at.isdigit() else await _offset_at(settings, partition, at, found.end)
    if not found.first <= start <= found.end:
        raise LocalError(f"--at {start}: Kafka has offsets {found.first} to {found.end}")
    ledger.cover_uncounted(state.newest_offset())
    ledger.begin_history(start, found.leader_epoch, found.topic)
    topics = topics_from(settings)
    changelog = ChangelogProducer(settings, topics.entity_state.name, topics.dead_letter.name)
    await changelog.start()
    try:
        record = (ledger_key(partition), encode_ledger_row(ledger), NO_HEADERS)
        await changelog.write({partition: [[record]]})
    finally:
        await changelog.stop()
    return start, ledger.offset + 1
