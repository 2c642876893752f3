"""`tobogganing ledger`: what became of every submission, and whether it adds up."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_metrics
from tobogganing.errors import LocalError
from tobogganing.output import write_document, write_note
from tobogganing.tables import ColumnTable

if TYPE_CHECKING:  # The command line starts without it.
    from tobogganing.ledger_audit import LedgerRecount

PATH = "/api/v1/ledger"
FATES = ("applied", "stale", "late", "dead_lettered")
"""What a submission that was read may have become."""
COLUMNS = ("partition", "read", *FATES, "lost", "lag_records", "balances")


AUDIT_COLUMNS = ("partition", "from", "records", "submissions", "late", "undecodable", "agrees")


@click.command()
@click.option(
    "--audit",
    is_flag=True,
    help="Count again what the topic still holds, and compare. Needs KAFKA_… as the services do.",
)
@with_metrics
def ledger(access: ApiTarget, as_json: bool, audit: bool) -> None:
    """Show what became of every submission, and whether it balances.

    The exit status is 1 where read is not applied + stale + late + dead-lettered; with --audit also
    where the topic says otherwise.
    """
    shown = fetch_ledger(access)
    recounts = _recount(shown["partitions"]) if audit else None
    if as_json:
        write_document(
            shown if recounts is None else shown | {"audit": _audit(shown, recounts)}, as_json
        )
    else:
        click.echo("\n".join(ColumnTable(COLUMNS).lines([*shown["partitions"], total(shown)])))
        if recounts is not None:
            lines = ColumnTable(AUDIT_COLUMNS).lines(_audit(shown, recounts))
            click.echo("\n" + "\n".join(lines))
        for line in remarks(shown["partitions"]) + audit_remarks(shown, recounts or {}):
            write_note(line)
    agrees = all(each["agrees"] for each in _audit(shown, recounts or {}))
    if not (shown["balances"] and agrees):
        sys.exit(1)


def _recount(partitions: Sequence[Mapping[str, Any]]) -> dict[int, "LedgerRecount"]:
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.ledger_audit import recount

    return on_kafka(lambda settings: recount(settings, partitions))


def _audit(
    shown: Mapping[str, Any], recounts: Mapping[int, "LedgerRecount"]
) -> list[dict[str, Any]]:
    return [
        recounts[each["partition"]].document(each)
        for each in shown["partitions"]
        if each["partition"] in recounts
    ]


def audit_remarks(shown: Mapping[str, Any], recounts: Mapping[int, "LedgerRecount"]) -> list[str]:
    """What is to be said about a recount, in sentences."""
    lines = []
    for each in shown["partitions"]:
        counted = recounts.get(each["partition"])
        if counted is None:
            continue
        where = f"partition {counted.partition}"
        lines += [f"{where} does not agree: {what}" for what in counted.differences(each)]
        if counted.histories > 1 and not counted.missing:
            lines.append(
                f"{where} has {counted.histories} histories: what was cut off is not there any "
                "more, so only too much would be seen"
            )
        elif not (counted.is_whole or counted.missing):
            lines.append(
                f"{where} can be compared from offset {counted.first} on: what was before it is "
                "deleted, so only too much would be seen"
            )
    return lines


def fetch_ledger(access: ApiTarget) -> dict[str, Any]:
    """Ask an exporter for its ledger.

    Raises:
        LocalError: nobody answered, or no exporter.
    """
    with access.client() as client:
        shown = client.request("GET", PATH)
    if not isinstance(shown.get("partitions"), list):
        raise LocalError(f"{access.url}{PATH} does not answer as an exporter does: check --url")
    return shown


def total(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The row below the partitions."""
    summed = {
        name: sum(each[name] or 0 for each in shown["partitions"])
        for name in ("read", *FATES, "lost")
    }
    lags = [each["lag_records"] for each in shown["partitions"]]
    lag = None if None in lags else sum(lags)
    return {"partition": "all", **summed, "lag_records": lag, "balances": shown["balances"]}


def remarks(partitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be said about partitions, in sentences."""
    lines = []
    for each in partitions:
        surplus = each["read"] - sum(each[fate] for fate in FATES)
        if surplus:
            lines.append(
                f"partition {each['partition']} does not balance: {abs(surplus)} "
                + ("of what was read is unaccounted for" if surplus > 0 else "more than was read")
            )
    lost = sum(each["lost"] for each in partitions)
    if lost:
        lines.append(f"{lost} records were lost: Kafka dropped them before they were read")
    if any(each["lag_records"] is None for each in partitions):
        lines.append("the lag is not known: the exporter has had no answer from Kafka yet")
    return lines
