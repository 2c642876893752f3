"""`--settings` of a service: each setting with its value, source and default."""

import dataclasses
import os
import pkgutil
import sys
from typing import TYPE_CHECKING

import click

from tobogganing.cli.options import Command, Decorator
from tobogganing.output import ColumnTable, write_note

if TYPE_CHECKING:  # The command line starts without it.
    from service.config.settings import Settings

COLUMNS = ("setting", "value", "source", "default")


def settings_option(path: str) -> Decorator:
    """The option that prints the settings of the class at `path` (`module:name`), and exits.

    The exit status is that of the service with these settings: 2 if one is missing or invalid.
    """

    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            sys.exit(_show(pkgutil.resolve_name(path)))

    def decorate(command: Command) -> Command:
        return click.option(
            "--settings",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=show,
            help="Print each setting with its value, source and default, and exit.",
        )(command)

    return decorate


def _show(cls: "type[Settings]") -> int:
    from service.config.settings import SettingsError, describe_settings, load_settings
    from service.tasks import EXIT_MISCONFIGURED

    ColumnTable(COLUMNS).write(map(dataclasses.asdict, describe_settings(cls, os.environ)))
    try:
        load_settings(cls)
    except SettingsError as error:
        write_note(str(error))
        return EXIT_MISCONFIGURED
    return 0
