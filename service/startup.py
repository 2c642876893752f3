"""The start of a service: its settings, its logs, and one sentence where a setting is wrong."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TypeVar

import structlog

from service.config.settings import LogSettings, SettingsError, load_settings, variables
from service.config.spelling import misspellings
from service.logs import configure_logs
from service.tasks import EXIT_MISCONFIGURED

log = structlog.get_logger(__name__)

SettingsT = TypeVar("SettingsT", bound=LogSettings)


@contextlib.contextmanager
def exit_if_misconfigured() -> Iterator[None]:
    """End with status 2 and a line for each setting that is wrong."""
    try:
        yield
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)


def start(cls: type[SettingsT], service: str) -> SettingsT:
    """Load the settings, begin to log, and warn of variables that look misspelled.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    settings = load_settings(cls)
    configure_logs(settings, service)
    if unknown := [str(each) for each in misspellings(variables(cls), os.environ)]:
        log.warning("variables that look like settings are not known", variables=unknown)
    return settings
