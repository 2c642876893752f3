"""`tobogganing audit` and `tobogganing anomalies`: the topics with these names."""

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from contract.anomaly import Reason
from contract.audit import REGISTRATIONS
from contract.kinds import KINDS
from tobogganing.cli.options import Command, json_option
from tobogganing.output import ColumnTable, write_document
from tobogganing.time_param import TimeParam

if TYPE_CHECKING:  # The command line starts without them.
    from aiokafka import ConsumerRecord

    from service.config.settings import KafkaSettings

AUDIT_COLUMNS = ("at", "actor", "action", "target", "outcome", "address", "reason")
ANOMALY_COLUMNS = ("at", "kind", "id", "reason", "detail", "receipt")

WRITTEN_AT_ONCE = 1000
"""Number of rows that are aligned with each other; with --follow each row is shown at once."""

Document = dict[str, Any]


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
@click.option(
    "--target",
    help="Only changes of this target (client:ID, headend:ID, …), also as one of many.",
)
@click.option("--actor", help="Only changes by `admin`, or by an entity: client:ID.")
@click.option("--action", help="Only this action: register, rotate-key, remove, ….")
@_of_a_log
def audit(
    target: str | None, actor: str | None, action: str | None, as_json: bool, **rest: Any
) -> None:
    """List administrative changes: who, what, when, and from where.

    A change is written before it is made, as `allowed`; a second record says so if it was `refused`
    or `unconfirmed`. Many registrations in one request are one record; its details (--json) have
    the ids. Reads Kafka directly, with the services' KAFKA_… settings; without them, the Kafka of
    the local run.
    """
    from tobogganing.topic_log import audit_document

    decode = functools.partial(audit_document, target=target)
    _write("audit", AUDIT_COLUMNS, decode, {"actor": actor, "action": action}, as_json, **rest)


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
    from tobogganing.topic_log import anomaly_document

    _write("anomalies", ANOMALY_COLUMNS, anomaly_document, wanted, as_json, **rest)


def _write(
    name: str,
    columns: tuple[str, ...],
    decode: Callable[["ConsumerRecord"], Document | None],
    wanted: dict[str, str | None],
    as_json: bool,
    since: int | None,
    follow: bool,
    limit: int | None,
) -> None:
    from service.kafka.topics import topics_from
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.topic_log import read_log

    filters = {field: value for field, value in wanted.items() if value is not None}

    async def run(settings: "KafkaSettings") -> None:
        topic = getattr(topics_from(settings), name).name
        table, waiting, found = ColumnTable(columns), list[Document](), 0
        if follow and not as_json:
            table.write([])
        async for each in read_log(settings, topic, decode, since_ms=since, follow=follow):
            if any(each[field] != value for field, value in filters.items()):
                continue
            found += 1
            if as_json:
                write_document(each, as_json)
                sys.stdout.flush()
            else:
                waiting.append(_row(each))
            if waiting and (follow or len(waiting) >= WRITTEN_AT_ONCE):
                table.write(waiting)
                sys.stdout.flush()
                waiting.clear()
            if found == limit:
                break
        if waiting or not (as_json or follow or found):
            table.write(waiting)

    on_kafka(run)


def _row(document: Document) -> Document:
    """A document as the table shows it: many entities as their number."""
    if document.get("target") != REGISTRATIONS:
        return document
    number = sum(len(ids.split()) for ids in document["details"].values())
    return document | {"target": f"{REGISTRATIONS} ({number:,})"}
