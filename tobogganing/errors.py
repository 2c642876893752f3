"""Errors that the user can fix: the command line prints them as one line, without a traceback."""

import click

EXIT_FAILED = 1
EXIT_SOFTWARE_ERROR = 70
"""EX_SOFTWARE: an error of the program, with a traceback."""
EXIT_INTERRUPTED = 130
"""Ended by Ctrl-C before everything was done."""


class LocalError(click.ClickException):
    """Something on this machine is wrong; the text says what, and what to do."""


class WrongSettingError(LocalError):
    """A setting in the environment is missing or invalid."""

    exit_code = 2
