"""`tobogganing ledger`: the outcome counts of all submissions, and whether they balance."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from service.plural import counted
from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import with_metrics
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write, write_document, write_note

if TYPE_CHECKING:  # The command line starts without it.
    from tobogganing.ledger_audit import LedgerRecount

PATH = "/api/v1/ledger"
OUTCOMES = ("applied", "stale", "late", "dead_lettered")
"""The outcomes of a submission that was read."""
COLUMNS = ("partition", "read", *OUTCOMES, "lost", "lag_records", "balances")
AUDIT_COLUMNS = ("partition", "from", "records", "submissions", "late", "undecodable", "agrees")


@click.command()
@click.option(
    "--audit",
    is_flag=True,
    help="Count the topic's records and compare. Needs the services' KAFKA_… settings.",
)
@with_metrics
def ledger(api: ApiTarget, as_json: bool, audit: bool) -> None:
    """Show the outcomes of all submissions, and whether they balance.

    The exit status is 1 if read is not applied + stale + late + dead-lettered; with --audit also if
    the topic disagrees.
    """
    shown = fetch_ledger(api)
    recounts = _recount(shown["partitions"]) if audit else {}
    audited = [
        recounts[each["partition"]].document(each)
        for each in shown["partitions"]
        if each["partition"] in recounts
    ]
    if as_json:
        write_document(shown | ({"audit": audited} if audit else {}), as_json)
    else:
        ColumnTable(COLUMNS).write([*shown["partitions"], total(shown)])
        if audit:
            write("")
            ColumnTable(AUDIT_COLUMNS).write(audited)
        for line in remarks(shown["partitions"]) + audit_remarks(shown, recounts):
            write_note(line)
    if not (shown["balances"] and all(each["agrees"] for each in audited)):
        sys.exit(1)


def _recount(partitions: Sequence[Mapping[str, Any]]) -> dict[int, "LedgerRecount"]:
    from tobogganing.cli.kafka import on_kafka
    from tobogganing.ledger_audit import recount

    return on_kafka(lambda settings: recount(settings, partitions))


def audit_remarks(shown: Mapping[str, Any], recounts: Mapping[int, "LedgerRecount"]) -> list[str]:
    """Remarks about a recount."""
    lines = []
    for each in shown["partitions"]:
        counted = recounts.get(each["partition"])
        if counted is None:
            continue
        where = f"partition {counted.partition}"
        lines += [f"{where} does not agree: {what}" for what in counted.differences(each)]
        if counted.histories > 1 and not counted.missing:
            lines.append(
                f"{where} has {counted.histories} histories: records of earlier ones are gone, so "
                "that only a surplus can be detected"
            )
        elif not (counted.is_whole or counted.missing):
            lines.append(
                f"{where} can be compared from offset {counted.first} on: earlier records are "
                "deleted, so that only a surplus can be detected"
            )
    return lines


def fetch_ledger(api: ApiTarget) -> dict[str, Any]:
    """Get the ledger from an exporter.

    Raises:
        LocalError: there is no response, or not from an exporter.
    """
    shown = api.request("GET", PATH)
    if not isinstance(shown.get("partitions"), list):
        raise LocalError(f"{api.url}{PATH} is not an exporter's response: check --url")
    return shown


def total(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the sums of all partitions."""
    summed = {
        name: sum(each[name] or 0 for each in shown["partitions"])
        for name in ("read", *OUTCOMES, "lost")
    }
    lags = [each["lag_records"] for each in shown["partitions"]]
    lag = None if None in lags else sum(lags)
    return {"partition": "all", **summed, "lag_records": lag, "balances": shown["balances"]}


def remarks(partitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Remarks about partitions that are not in order."""
    lines = []
    for each in partitions:
        surplus = each["read"] - sum(each[outcome] for outcome in OUTCOMES)
        if surplus:
            counts = f"{counted(each['read'], 'submission')} read, {each['read'] - surplus:,}"
            lines.append(
                f"partition {each['partition']} does not balance: {counts} with an outcome"
            )
    lost = sum(each["lost"] for each in partitions)
    if lost:
        lines.append(f"lost: {counted(lost, 'record')} that Kafka deleted before they were read")
    if any(each["lag_records"] is None for each in partitions):
        lines.append("the lag is unknown: the exporter has no response from Kafka yet")
    return lines
