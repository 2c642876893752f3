"""What each command over the API takes: where the gateway is, who asks, and how to answer."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # The command line starts without it.
    from tobogganing.commands.manager import Manager

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


@dataclass(frozen=True)
class Access:
    """A gateway, and the credential for it."""

    url: str
    token_file: str | None = None
    secret: str | None = "ADMIN_TOKEN"
    """Which token is shown; None where nothing is asked for but what needs no credential."""

    def token(self) -> str:
        """
        Raises:
            LocalError: there is none.
        """
        from tobogganing.admin_token import read_token

        assert self.secret is not None, "what is open needs no token"
        return read_token(self.secret, self.token_file, os.environ)

    def manager(self) -> "Manager":
        """
        Raises:
            LocalError: the token is not there.
        """
        from tobogganing.commands.manager import Manager

        if self.secret is None:
            return Manager(self.url, None)
        return Manager(self.url, self.token(), self.secret)


def with_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` with the ADMIN_TOKEN, and `as_json`."""

    @url_option
    @admin_token_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, admin_token_file: str | None, **rest: Any) -> None:
        command(access=Access(url, admin_token_file), **rest)

    return run


def with_metrics(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` with the METRICS_TOKEN, and `as_json`."""

    @url_option
    @metrics_token_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, metrics_token_file: str | None, **rest: Any) -> None:
        command(access=Access(url, metrics_token_file, "METRICS_TOKEN"), **rest)

    return run


def without_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` to what is open to all, and `as_json`."""

    @url_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, **rest: Any) -> None:
        command(access=Access(url, secret=None), **rest)

    return run
