"""Options that many commands share."""

import functools
import os
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from tobogganing.api_client.target import ApiTarget
from tobogganing.api_client.tokens import option_of
from tobogganing.devstack.local_run import running_urls, url_fault, without_localhost
from tobogganing.devstack.run_config import read_run_config

Command = Callable[..., None]
Decorator = Callable[[Command], Command]


def default_url() -> str:
    """The URL of the local run; without one, the URL that it would have."""
    config = read_run_config(os.environ)
    return next(iter(running_urls(config.state)), config.url)


def _given_anywhere(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """The value of an option that may also be given before the subcommand.

    After the subcommand is more specific; both override the environment.
    """
    given = context.meta.setdefault(__name__, {})  # shared by nested contexts
    assert parameter.name is not None
    if context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
        given[parameter.name] = value
    return given.get(parameter.name, value)


def _check_url(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the URL without a trailing slash; the local run's own URL if it is named by
    `localhost`."""
    url = str(_given_anywhere(context, parameter, value))
    is_given = context.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
    if is_given and (fault := url_fault(url)):  # HOST and PORT are checked with the settings
        raise click.BadParameter(fault)
    return without_localhost(url, running_urls(read_run_config(os.environ).state)).rstrip("/")


def _url_option(**attributes: Any) -> Decorator:
    return click.option(
        "--url",
        envvar="TOBOGGANING_URL",
        default=default_url,
        callback=_check_url,
        help="URL of the gateway or exporter. Default: the local run's.",
        **attributes,
    )


def token_option(name: str, **attributes: Any) -> Decorator:
    return click.option(
        option_of(name),
        default=None,
        type=click.Path(dir_okay=False),
        callback=_given_anywhere,
        help=f"File with the {name}. Default: the environment's, else the local run's.",
        **attributes,
    )


url_option = _url_option()
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def address_options(*, hidden: bool) -> list[click.Parameter]:
    """The options of the address for a group, so that they may precede the subcommand."""
    attributes = {"expose_value": False, "hidden": hidden}

    def carrier() -> None: ...

    for name in ("METRICS_TOKEN", "ADMIN_TOKEN"):
        token_option(name, **attributes)(carrier)
    _url_option(**attributes)(carrier)
    options: list[click.Parameter] = carrier.__click_params__  # type: ignore[attr-defined]
    return options[::-1]


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
