"""What each command over the API takes: where the gateway is, who asks, and how to answer."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # The command line starts without it.
    pass
from tobogganing.api_client.target import ApiTarget

URL = "http://127.0.0.1:8000"

url_option = click.option(
    "--url", envvar="TOBOGGANING_URL", default=URL, show_default=True, help="The gateway."
)
admin_token_option = click.option(
    "--admin-token-file",
    default=None,
    type=click.Path(dir_okay=False),
    help="File with the ADMIN_TOKEN. Default: the environment's, else the local run's.",
)
metrics_token_option = click.option(
    "--metrics-token-file",
    default=None,
    type=click.Path(dir_okay=False),
    help="File with the METRICS_TOKEN. Default: the environment's, else the local run's.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def with_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` with the ADMIN_TOKEN, and `as_json`."""

    @url_option
    @admin_token_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, admin_token_file: str | None, **rest: Any) -> None:
        command(access=ApiTarget(url, admin_token_file), **rest)

    return run


def with_metrics(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` with the METRICS_TOKEN, and `as_json`."""

    @url_option
    @metrics_token_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, metrics_token_file: str | None, **rest: Any) -> None:
        command(access=ApiTarget(url, metrics_token_file, "METRICS_TOKEN"), **rest)

    return run


def without_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` to what is open to all, and `as_json`."""

    @url_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, **rest: Any) -> None:
        command(access=ApiTarget(url, token_name=None), **rest)

    return run
