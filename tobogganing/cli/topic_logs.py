"""`tobogganing audit` and `tobogganing anomalies`: the topics with these names."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from contract.anomaly import Reason
from contract.kinds import KINDS
from tobogganing.cli.options import Command, json_option
from tobogganing.output import ColumnTable, write_document
from tobogganing.time_param import TimeParam

if TYPE_CHECKING:  # The command line starts without them.
    from service.config.settings import KafkaSettings

AUDIT_COLUMNS = ("at", "actor", "action", "target", "outcome", "address", "reason")
ANOMALY_COLUMNS = ("at", "kind", "id", "reason", "detail", "receipt")

Matches = Callable[[dict[str, Any]], bool]


def _of_a_log(command: Command) -> Command:
    for add in (
        json_option,
        click.option("--limit", type=click.IntRange(min=1), help="At most this many."),
        click.option("--follow", "-f", is_flag=True, help="Wait for further ones, until Ctrl-C."),
        click.option(
            "--since", type=TimeParam(), help="Only those since then: 15m, 2h, or a date."
        ),
    ):
        command = add(command)
    return command


@click.command()
@click.option("--target", help="Only changes of this target: client:ID, headend:ID, ….")
@click.option("--actor", help="Only changes by `admin`, or by an entity: client:ID.")
@click.option("--action", help="Only this action: register, rotate-key, remove, ….")
@_of_a_log
def audit(
    target: str | None, actor: str | None, action: str | None, as_json: bool, **rest: Any
) -> None:
    """List administrative changes: who, what, when, and from where.

    A change is written before it is made, as `allowed`; a second record says so if it was `refused`
    or `unconfirmed`. Reads Kafka directly, with the services' KAFKA_… settings; without them, the
    Kafka of the local run.
    """
    wanted = {"target": target, "actor": actor, "action": action}
    _write("audit", AUDIT_COLUMNS, wanted, as_json, **rest)


@click.command()
@click.option("--kind", type=click.Choice([*KINDS]), help="Only those of this kind.")
@click.option("--id", help="Only those of this entity.")
@click.option("--reason", type=click.Choice([each.value for each in Reason]))
@_of_a_log
def anomalies(
    kind: str | None, id: str | None, reason: str | None, as_json: bool, **rest: Any
) -> None:
    """List unusual submissions: counters that fall, wrong clocks, ids that are used twice.

    Reads Kafka directly, with the services' KAFKA_… settings; without them, the Kafka of the local
    run.
    """
    wanted = {"kind": kind, "id": id, "reason": reason}
    _write("anomalies", ANOMALY_COLUMNS, wanted, as_json, **rest)


def _write(
    name: str,
    columns: tuple[str, ...],
    wanted: dict[str, str | None],
    as_json: bool,
    since: int | None,
    follow: bool,
    limit: int | None,
) -> None:
    from service.kafka.topics import topics_from
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.topic_log import anomaly_document, audit_document, read_log

    decode = audit_document if name == "audit" else anomaly_document
    filters = {field: value for field, value in wanted.items() if value is not None}

    async def run(settings: "KafkaSettings") -> None:
        topic = getattr(topics_from(settings), name).name
        table, left = ColumnTable(columns), limit
        async for each in read_log(settings, topic, decode, since_ms=since, follow=follow):
            if any(each[field] != value for field, value in filters.items()):
                continue
            if as_json:
                write_document(each, as_json)
            else:
                table.write([each])
            sys.stdout.flush()
            if left is not None:
                left -= 1
                if not left:
                    return

    on_kafka(run)
