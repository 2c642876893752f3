"""Errors that the user can fix: the command line prints them as one line, without a traceback."""

import click


class LocalError(click.ClickException):
    """Something on this machine is wrong; the text says what, and what to do."""


class WrongSettingError(LocalError):
    """A setting in the environment is missing or invalid."""

    exit_code = 2
