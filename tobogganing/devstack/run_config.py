"""The settings of a local run: folder, address, Kafka."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tobogganing.devstack.ports import LOOPBACK
from tobogganing.errors import WrongSettingError

CHECKOUT = Path(__file__).resolve().parents[2]
EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class RunConfig:
    state: Path
    host: str
    port: int
    bootstrap_servers: str | None
    """An existing Kafka; None starts one."""

    @property
    def bootstrap_servers_file(self) -> Path:
        """The file with the address of the run's own Kafka, for commands."""
        return self.state / "kafka" / "bootstrap-servers"

    @property
    def url(self) -> str:
        """The URL on this machine."""
        host = LOOPBACK if self.host in EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def read_run_config(environ: Mapping[str, str]) -> RunConfig:
    """Read STATE_DIR, HOST, PORT and KAFKA_BOOTSTRAP_SERVERS.

    Without STATE_DIR the state is in the checkout, whatever the working directory is.

    Raises:
        WrongSettingError: PORT is not a port.
    """
    port = environ.get("PORT") or "8000"
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise WrongSettingError(f"PORT={port} is not a port: choose a number from 1 to 65535")
    base = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()
    return RunConfig(
        state=Path(environ.get("STATE_DIR") or base / ".state").expanduser().absolute(),
        host=environ.get("HOST") or LOOPBACK,
        port=int(port),
        bootstrap_servers=environ.get("KAFKA_BOOTSTRAP_SERVERS") or None,
    )
