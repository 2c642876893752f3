"""`tobogganing ledger`: what became of every submission, and whether it adds up."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tobogganing.commands.access import Access, with_metrics
from tobogganing.commands.answers import note, show
from tobogganing.commands.tables import Table
from tobogganing.local.errors import LocalError

PATH = "/api/v1/ledger"
FATES = ("applied", "stale", "late", "dead_lettered")
"""What a submission that was read may have become."""
COLUMNS = ("partition", "read", *FATES, "lost", "lag_records", "balances")


@click.command()
@with_metrics
def ledger(access: Access, as_json: bool) -> None:
    """Show what became of every submission, and whether it balances.

    The exit status is 1 where read is not applied + stale + late + dead-lettered.
    """
    shown = ask(access)
    if as_json:
        show(shown, as_json)
    else:
        click.echo("\n".join(Table(COLUMNS).lines([*shown["partitions"], total(shown)])))
        for line in remarks(shown["partitions"]):
            note(line)
    if not shown["balances"]:
        sys.exit(1)


def ask(access: Access) -> dict[str, Any]:
    """Ask an exporter for its ledger.

    Raises:
        LocalError: nobody answered, or no exporter.
    """
    with access.manager() as manager:
        shown = manager.ask("GET", PATH)
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
