"""`tobogganing topics`: Kafka's topics of an installation, without Kafka's own scripts."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from contract.topics import declare_topics
from service.plural import counted
from tobogganing.cli.command_group import CommandGroup
from tobogganing.cli.options import json_option, yes_option
from tobogganing.cli.settings import settings_option
from tobogganing.output import ColumnTable, write
from tobogganing.time_param import TimeParam

if TYPE_CHECKING:  # The command line starts without it.
    from service.config.settings import KafkaSettings

NAMES = tuple(topic.name for topic in declare_topics("", 1).all())
COLUMNS = ("topic", "partitions", "replicas", "leaderless", "under_replicated")
CREATE_TIMEOUT = 60.0
"""Seconds that `topics` waits for brokers that are starting."""


@click.group(cls=CommandGroup, invoke_without_command=True)
@settings_option("service.config.settings:KafkaSettings")
@click.pass_context
def topics(context: click.Context) -> None:
    """Create missing topics, and check the existing ones.

    Uses the services' KAFKA_… settings; without them, the Kafka of the local run.
    """
    if context.invoked_subcommand is not None:
        return
    from service.kafka.topics import topics_from
    from tobogganing.cli.kafka import on_kafka

    async def declared(settings: "KafkaSettings") -> list[tuple[str, int]]:
        return [(topic.name, topic.partitions) for topic in topics_from(settings).all()]

    for name, partitions in on_kafka(declared, make_topics=True, timeout=CREATE_TIMEOUT):
        write(f"{name}  {counted(partitions, 'partition')}")


@topics.command("describe")
@json_option
def describe_topics(as_json: bool) -> None:
    """List the topics, with partitions that have no leader or too few replicas in sync.

    The exit status is 1 if there is such a partition.
    """
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.topics import describe

    rows = on_kafka(describe)
    _write(rows, COLUMNS, as_json)
    if any(row["leaderless"] or row["under_replicated"] for row in rows):
        sys.exit(1)


@topics.command("repair")
@click.option(
    "--shorten",
    is_flag=True,
    help="Also set a longer retention of submissions to SUBMISSIONS_RETENTION_HOURS.",
)
@json_option
def repair_topics(as_json: bool, shorten: bool) -> None:
    """Set the settings that the services require.

    A setting that only keeps more than is required stays. This also opens a topic that
    `backup --drained` has closed.
    """
    from tobogganing.alter_topics import alter_topics
    from tobogganing.cli.kafka import on_kafka

    changes = on_kafka(lambda settings: alter_topics(settings, shorten=shorten))
    _write(
        [change._asdict() for change in changes], ("topic", "setting", "before", "after"), as_json
    )
    if not changes and not as_json:
        write("all settings are as required")


@topics.command("delete")
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
@yes_option
@json_option
def delete_topics(as_json: bool, names: tuple[str, ...], yes: bool) -> None:
    """Delete topics with all their records; without a NAME, all topics of the installation.

    NAME is `submissions`, `entity-state`, `registry`, `dead-letter`, `anomalies`, `audit` or
    `evidence`. Only topics whose name is KAFKA_TOPIC_PREFIX and a NAME are deleted, and only if no
    processor of the installation runs. Stop the gateways and exporters, too.
    """
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.topics import delete

    def confirm(existing: list[str]) -> None:
        if not yes:
            click.confirm(f"Delete {', '.join(existing)} with all records?", abort=True, err=True)

    for name in on_kafka(lambda settings: delete(settings, names, confirm)):
        write(json.dumps({"deleted": name}) if as_json else f"deleted {name}")


@topics.command("read")
@click.argument("name", type=click.Choice(NAMES))
@click.option("--since", type=TimeParam(), help="Only records since then: 15m, 2h, or a date.")
def read_topic(name: str, since: int | None) -> None:
    """Write the records of a topic as JSON, one a line, for example `topics read anomalies`."""
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.topics import read

    def write_record(record: dict[str, Any]) -> None:
        write(json.dumps(record, ensure_ascii=False))

    on_kafka(lambda settings: read(settings, name, since, write_record))


def _write(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        for row in rows:
            write(json.dumps(row))
    elif rows:
        ColumnTable(columns).write(rows)
