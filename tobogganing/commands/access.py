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
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@dataclass(frozen=True)
class Access:
    """A gateway, and the credential for it."""

    url: str
    admin_token_file: str | None = None
    is_open: bool = False
    """Nothing is asked for but what needs no credential."""

    def admin_token(self) -> str:
        """
        Raises:
            LocalError: there is none.
        """
        from tobogganing.admin_token import read_admin_token

        return read_admin_token(self.admin_token_file, os.environ)

    def manager(self) -> "Manager":
        """
        Raises:
            LocalError: there is no ADMIN_TOKEN.
        """
        from tobogganing.commands.manager import Manager

        return Manager(self.url, None if self.is_open else self.admin_token())


def with_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` with the ADMIN_TOKEN, and `as_json`."""

    @url_option
    @admin_token_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, admin_token_file: str | None, **rest: Any) -> None:
        command(access=Access(url, admin_token_file), **rest)

    return run


def without_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `access` to what is open to all, and `as_json`."""

    @url_option
    @json_option
    @functools.wraps(command)
    def run(*, url: str, **rest: Any) -> None:
        command(access=Access(url, is_open=True), **rest)

    return run
