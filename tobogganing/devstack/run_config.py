"""The settings of a local run: folder, address, Kafka."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tobogganing.devstack.ports import LOOPBACK, is_loopback, own_address
from tobogganing.errors import WrongSettingError

CHECKOUT = Path(__file__).resolve().parents[2]
EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}
"""Addresses that mean all interfaces, and the one to use on this machine."""


@dataclass(frozen=True)
class RunConfig:
    state: Path
    host: str
    port: int
    bootstrap_servers: str | None
    """An existing Kafka; None starts one."""
    tls_certificate: str | None
    """The certificate of the services' port; None for plain HTTP."""
    with_prometheus: bool

    @property
    def bootstrap_servers_file(self) -> Path:
        """The file with the address of the run's own Kafka, for commands."""
        return self.state / "kafka" / "bootstrap-servers"

    @property
    def url(self) -> str:
        """The URL on this machine."""
        return self._url(EVERYWHERE.get(self.host, self.host))

    @property
    def public_url(self) -> str | None:
        """The URL for other machines; None if they have no access, or no address is known."""
        if is_loopback(self.host):
            return None
        host = own_address(self.host) if self.host in EVERYWHERE else self.host
        return self._url(host) if host else None

    def _url(self, host: str) -> str:
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


def default_state() -> Path:
    """`.state` in the checkout; without one, in the working directory."""
    base = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()
    return base / ".state"


def start_command() -> str:
    """The command that starts the local run."""
    return "make run" if (CHECKOUT / "Makefile").exists() else "tobogganing run"


def read_run_config(environ: Mapping[str, str]) -> RunConfig:
    """Read STATE_DIR, HOST, PORT, KAFKA_BOOTSTRAP_SERVERS, TLS_CERTIFICATE and PROMETHEUS.

    Without STATE_DIR the state is in the checkout, whatever the working directory is.

    Raises:
        WrongSettingError: PORT is not a port.
    """
    port = environ.get("PORT") or "8000"
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise WrongSettingError(f"PORT={port} is not a port: choose a number from 1 to 65535")
    return RunConfig(
        state=Path(environ.get("STATE_DIR") or default_state()).expanduser().absolute(),
        host=environ.get("HOST") or LOOPBACK,
        port=int(port),
        bootstrap_servers=environ.get("KAFKA_BOOTSTRAP_SERVERS") or None,
        tls_certificate=environ.get("TLS_CERTIFICATE") or None,
        with_prometheus=(environ.get("PROMETHEUS") or "0") != "0",
    )
