"""`tobogganing plan`: the resources that a fleet needs."""

import textwrap
from typing import TYPE_CHECKING, Any

import click

from service.plural import counted
from tobogganing.cli.options import json_option
from tobogganing.output import ColumnTable, write, write_document

if TYPE_CHECKING:  # The command line starts without it.
    from tobogganing.sizing.components import PlannedComponent
    from tobogganing.sizing.plan import CapacityPlan

COLUMNS = ("part", "number", "cores", "memory", "disk", "busy")
WIDTH = 100
CLIENTS_PER_HEADEND = 1000
_SECONDS = click.FloatRange(min=1)


@click.command()
@click.option("--clients", default=10_000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--interval",
    default=60.0,
    show_default=True,
    type=_SECONDS,
    help="Seconds between two submissions of a client.",
)
@click.option(
    "--headends",
    type=click.IntRange(min=0),
    help=f"Default: one for {CLIENTS_PER_HEADEND:,} clients.",
)
@click.option("--headend-interval", default=30.0, show_default=True, type=_SECONDS)
@click.option(
    "--batch",
    default=1,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Submissions in a relay's request; 1: each client and headend sends its own.",
)
@click.option(
    "--connections",
    default="new",
    show_default=True,
    type=click.Choice(["new", "kept"]),
    help="Whether each client opens a connection for each submission, or keeps one.",
)
@json_option
def plan(
    as_json: bool,
    clients: int,
    interval: float,
    headends: int | None,
    headend_interval: float,
    batch: int,
    connections: str,
) -> None:
    """Compute the resources that a fleet needs, with reasons.

    The figures were measured on the machine of docs/performance.md; docs/capacity.md has the
    formula.
    """
    from tobogganing.sizing.components import PlannedFleet
    from tobogganing.sizing.plan import plan

    if headends is None:
        headends = -(-clients // CLIENTS_PER_HEADEND)
    keeps = connections == "kept"
    found = plan(PlannedFleet(clients, interval, headends, headend_interval, batch, keeps))
    if as_json:
        write_document(document(found), as_json)
    else:
        write("\n".join(lines(found)))


def document(found: "CapacityPlan") -> dict[str, Any]:
    """The plan for --json; memory, disk and rates in bytes."""
    return {
        "submissions_a_second": found.fleet.rate,
        "partitions": found.partitions,
        "shards": found.shards,
        "parts": [
            {
                "part": part.name,
                "number": part.number,
                "cores": part.cores,
                "memory": round(part.memory),
                "disk": round(part.disk),
                "busy": round(part.busy, 3),
                "why": part.why,
            }
            for part in found.parts
        ],
        "cores": found.cores,
        "memory": round(found.memory),
        "disk": round(found.disk),
        "agents_bytes_a_second": round(found.agent_bytes),
        "broker_bytes_a_second": round(found.broker_bytes),
        "scrape_bytes": round(found.scrape_bytes),
        "series": found.fleet.series,
    }


def lines(found: "CapacityPlan") -> list[str]:
    """The plan as text."""
    fleet = found.fleet
    posts = "one a request" if fleet.batch == 1 else f"in batches of {fleet.batch:,}"
    return [
        f"{counted(fleet.clients, 'client')} every {fleet.interval:g} s, "
        f"{counted(fleet.headends, 'headend')} every "
        f"{fleet.headend_interval:g} s: {counted(fleet.rate, 'submission')} a second, {posts}",
        "",
        *ColumnTable(COLUMNS).lines([_row(part) for part in found.parts]),
        "",
        *(line for part in found.parts for line in _explained(part.name, part.why)),
        "",
        *_explained(
            "total",
            f"{counted(found.cores, 'core')}, {size(found.memory)} of memory, "
            f"{size(found.disk)} of disk",
        ),
        *_explained("partitions", f"{found.partitions}: {found.why_partitions}"),
        *_explained("shards", f"{found.shards}: EXPORTER_SHARD=1/{found.shards} and so on"),
        *_explained(
            "network",
            f"{rate(found.agent_bytes)} of submissions from agents, "
            f"{rate(found.broker_bytes)} into each broker, a scrape of {size(found.scrape_bytes)}",
        ),
        *_explained("Prometheus", f"{fleet.series:,} series of the fleet"),
        "",
        *textwrap.wrap(
            "Busy: the share of its cores that each instance uses when one of them is lost. "
            "The cores are those of the machine of docs/performance.md.",
            WIDTH,
        ),
    ]


def _explained(name: str, text: str) -> list[str]:
    """Return lines with a name, and a text that is wrapped in its own column."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<15}", subsequent_indent=" " * 15)


def _row(part: "PlannedComponent") -> dict[str, Any]:
    return {
        "part": part.name,
        "number": part.number,
        "cores": part.cores,
        "memory": size(part.memory),
        "disk": size(part.disk) if part.disk else "-",
        "busy": f"{part.busy:.0%}",
    }


def size(count: float) -> str:
    """Bytes with a unit and two digits."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.{0 if count >= 10 * factor else 1}f} {unit}"
    return f"{count / 1e3:.1f} kB"


def rate(count: float) -> str:
    """Bytes a second as bits a second."""
    return f"{count * 8 / 1e6:,.{0 if count * 8 >= 1e7 else 1}f} Mbit/s"
