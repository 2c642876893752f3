"""What is checked before a local run starts anything."""

import contextlib
from collections.abc import Iterator, Mapping

from gateway.app import check_files
from processor.settings import ProcessorSettings
from service.config.checks import check_host
from service.config.settings import SettingsError, load_settings
from service.http.server import listen_fault
from tobogganing.devstack.ports import LOOPBACK, is_free
from tobogganing.devstack.run_config import RunConfig
from tobogganing.errors import WrongSettingError
from tobogganing.manager import ServeSettings


@contextlib.contextmanager
def wrong_settings() -> Iterator[None]:
    """Convert errors of settings to those of commands."""
    try:
        yield
    except SettingsError as error:
        raise WrongSettingError(str(error)) from None


def check_services(config: RunConfig, environ: Mapping[str, str]) -> None:
    """Check the settings of all services before the first is started.

    Raises:
        WrongSettingError: a service would not start.
    """
    environ = {"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:1", **environ}
    environ |= {"HOST": config.host, "PORT": str(config.port)}
    with wrong_settings():
        check_files(load_settings(ServeSettings, environ))
        load_settings(ProcessorSettings, environ)


def check_port(config: RunConfig) -> None:
    """Check that the port is free.

    Raises:
        WrongSettingError: it is taken, or HOST and PORT cannot be used.
    """
    try:
        check_host(config.host)
        if is_free(config.port, config.host):
            return
    except ValueError as error:
        raise WrongSettingError(f"HOST={config.host} is not valid: {error}") from None
    except OSError as error:
        raise WrongSettingError(listen_fault(config.host, config.port, error)) from None
    raise WrongSettingError(
        f"PORT={config.port}: port {config.port} is taken on {config.host}: stop the program that "
        f"listens there, or choose another port: make run PORT={config.port + 1}"
    )
