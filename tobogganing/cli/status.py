"""`tobogganing status`: the overview of check-ins, and how to reach everything."""

import os
from collections.abc import Mapping
from typing import Any

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.checkins import PATH, age
from tobogganing.cli.options import with_metrics
from tobogganing.errors import LocalError
from tobogganing.output import ColumnTable, write_document

COLUMNS = ("kind", "total", "online", "late", "offline", "never")


@click.command()
@with_metrics
def status(api: ApiTarget, as_json: bool) -> None:
    """Show how many clients and headends check in, and the URLs and tokens of the local run.

    The exit status is 1 if the exporter does not respond.
    """
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
        click.echo(line)
    _write_local_run(api.url)


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
        lines.append(f"{rate:g} submissions a second")
    if document["shard"] != "1/1":
        lines.append(f"only the entities of shard {document['shard']}")
    if not document["total_clients"] + document["total_headends"]:
        lines.append("nothing is registered yet: tobogganing clients add NAME --type native")
    return lines


def _write_local_run(url: str) -> None:
    """Print again what `make run` printed, if this is the local run."""
    from tobogganing.devstack.banner import banner
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
        click.echo("\n" + banner(config, sources, servers, url=url))
    else:
        click.echo(f"\n{url}/checkins shows the same; sign in with METRICS_TOKEN")
