"""Groups of commands: sections, suggestions for a misspelled command, and uncut help."""

import os
from collections.abc import Sequence
from typing import Any

import click
import cloup
from cloup import HelpSection, HelpTheme, Section, Style

from tobogganing.cli.options import address_options

WIDTH = 100
"""Columns of a help page at most."""
_WHOLE = 10_000
"""A length that no first sentence of a help text has."""


class CommandGroup(cloup.Group):
    """A group that accepts the options of the address before the subcommand, too.

    Only the root shows these options in its help.
    """

    def __init__(
        self,
        *args: Any,
        is_root: bool = False,
        params: Sequence[click.Parameter] | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}
        if os.environ.get("NO_COLOR"):
            settings["color"] = False
        theme = HelpTheme(
            heading=Style(bold=True), invoked_command=Style(bold=True), col1=Style(fg="cyan")
        )
        kwargs["context_settings"] = {**settings, "formatter_settings": {"theme": theme}}
        options = [*(params or ()), *address_options(hidden=not is_root)]
        super().__init__(*args, params=options, **kwargs)

    def make_commands_help_section(
        self, ctx: click.Context, section: Section
    ) -> HelpSection | None:
        commands = section.list_commands()
        rows = [(name, command.get_short_help_str(_WHOLE)) for name, command in commands]
        return HelpSection(section.title, rows) if rows else None
