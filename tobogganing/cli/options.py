"""Options that many commands share."""

import functools
from collections.abc import Callable
from typing import Any

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.api_client.tokens import option_of

URL = "http://127.0.0.1:8000"

Command = Callable[..., None]
Decorator = Callable[[Command], Command]

url_option = click.option(
    "--url",
    envvar="TOBOGGANING_URL",
    default=URL,
    show_default=True,
    help="URL of the gateway or exporter.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def token_option(name: str) -> Decorator:
    return click.option(
        option_of(name),
        default=None,
        type=click.Path(dir_okay=False),
        help=f"File with the {name}. Default: the environment's, else the local run's.",
    )


def _with_api(token: str | None) -> Decorator:
    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(*, url: str, **rest: Any) -> None:
            file = rest.pop(f"{token.lower()}_file") if token else None
            command(api=ApiTarget(url, file, token), **rest)

        return url_option((token_option(token) if token else lambda each: each)(json_option(run)))

    return decorate


with_admin = _with_api("ADMIN_TOKEN")
"""Gives a command `api`, with the ADMIN_TOKEN, and `as_json`."""
with_metrics = _with_api("METRICS_TOKEN")
"""The same with the METRICS_TOKEN."""
without_token = _with_api(None)
"""The same for endpoints without authentication."""
