"""`tobogganing status`: the overview of check-ins, and how to reach everything."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.checkins import PATH, age
from tobogganing.cli.options import with_metrics
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write, write_document

if TYPE_CHECKING:  # The command line starts without them.
    from tobogganing.devstack.run_config import RunConfig
    from tobogganing.devstack.secrets import SecretSource

COLUMNS = ("kind", "total", "online", "late", "offline", "never")


@click.command()
@click.option(
    "--paste",
    is_flag=True,
    help="Print only the commands to paste into another terminal, as the local run does.",
)
@with_metrics
def status(api: ApiTarget, as_json: bool, paste: bool) -> None:
    """Show how many clients and headends check in, and the URLs and tokens of the local run.

    The exit status is 1 if the exporter does not respond.
    """
    if paste:
        write(_commands_to_paste(api.url))
        return
    overview = api.request("GET", PATH, query={"limit": "100"})
    if not isinstance(overview.get("states"), dict):
        raise LocalError(f"{api.url}{PATH} is not an exporter's response: check --url")
    document = {name: value for name, value in overview.items() if name not in _OF_THE_LIST}
    if as_json:
        write_document(document, as_json)
        return
    rows = (
        {"kind": kind, "total": sum(counts.values()), **counts}
        for kind, counts in document["states"].items()
    )
    ColumnTable(COLUMNS).write(rows)
    for line in remarks(document):
        write(line)
    _write_addresses(api.url)


_OF_THE_LIST = ("kind", "matches", "items", "next")


def remarks(document: Mapping[str, Any]) -> list[str]:
    """What an operator should know about these numbers."""
    lines = []
    if not document["is_current"]:
        lines.append(
            f"states as of {document['as_of']}, {age(document['seconds_late'])} ago: Kafka or the "
            "processors are unavailable or behind"
        )
    if document["waiting_for"]:
        lines.append("not ready: waiting for " + ", ".join(document["waiting_for"]))
    rate = document["submissions_per_second"]
    if rate is not None:
        lines.append(f"{rate:,g} submissions a second")
    if document["shard"] != "1/1":
        lines.append(f"only the entities of shard {document['shard']}")
    if not document["total_clients"] + document["total_headends"]:
        lines.append("nothing is registered yet: tobogganing clients add NAME --type native")
    return lines


def _commands_to_paste(url: str) -> str:
    from tobogganing.devstack.banner import commands_to_paste

    if (found := _local_run(url)) is None:
        raise LocalError(f"--paste is for the local run, which does not serve {url}")
    config, sources, _ = found
    return commands_to_paste(config, sources, url)


def _write_addresses(url: str) -> None:
    """Write the addresses that `make run` printed, if this is the local run."""
    from tobogganing.devstack.banner import addresses

    if (found := _local_run(url)) is None:
        write(f"\n{url}/checkins shows the same; sign in with METRICS_TOKEN")
        return
    write(f"\n{addresses(*found, url)}\n\nCommands to try: tobogganing status --paste")


def _local_run(url: str) -> "tuple[RunConfig, list[SecretSource], str] | None":
    """The settings, secrets and Kafka of the local run; None if it does not serve `url`."""
    from tobogganing.devstack.local_run import running_urls, same_origin
    from tobogganing.devstack.run_config import read_run_config
    from tobogganing.devstack.secrets import existing_secrets

    config = read_run_config(os.environ)
    try:
        servers = config.bootstrap_servers_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        servers = config.bootstrap_servers or ""
    sources = existing_secrets(config.state / "secrets", os.environ)
    # The environment of this terminal may lack the PORT of the run.
    if sources and servers and any(same_origin(url, each) for each in running_urls(config.state)):
        return config, sources, servers
    return None
