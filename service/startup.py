"""Start-up of a service: loads settings, configures logs, and reports invalid settings."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import TypeVar

import structlog

from service.config.settings import (
    HttpSettings,
    LogSettings,
    SettingsError,
    load_settings,
    variables,
)
from service.config.spelling import misspellings
from service.logs import configure_logs
from service.process_name import set_process_name
from service.tasks import EXIT_MISCONFIGURED

log = structlog.get_logger(__name__)

SettingsT = TypeVar("SettingsT", bound=LogSettings)


def name_process(settings: LogSettings, service: str) -> None:
    """Name the Kafka clients of a process after its service, host and port."""
    port = f"-{settings.port}" if isinstance(settings, HttpSettings) else ""
    set_process_name(service, f"{socket.gethostname()}{port}")


@contextlib.contextmanager
def exit_if_misconfigured() -> Iterator[None]:
    """Exit with status 2 and print one line for each invalid setting."""
    try:
        yield
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)


def start(cls: type[SettingsT], service: str) -> SettingsT:
    """Load the settings, configure logs, and warn of variables that may be misspelled.

    Raises:
        SettingsError: a setting is missing or not valid.
    """
    settings = load_settings(cls)
    configure_logs(settings, service)
    name_process(settings, service)
    if unknown := [str(each) for each in misspellings(variables(cls), os.environ)]:
        log.warning("unknown variables that look like settings", variables=unknown)
    return settings
