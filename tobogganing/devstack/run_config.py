"""Where a local run happens: its folder, its port, whose Kafka."""

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
    """An existing Kafka; None for one of our own."""

    @property
    def bootstrap_servers_file(self) -> Path:
        """Where a run writes the address of its own Kafka, for commands that ask it."""
        return self.state / "kafka" / "bootstrap-servers"

    @property
    def url(self) -> str:
        """How this machine reaches the HTTP port."""
        host = LOOPBACK if self.host in EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def read_run_config(environ: Mapping[str, str]) -> RunConfig:
    """From STATE_DIR, HOST, PORT and KAFKA_BOOTSTRAP_SERVERS.

    Without STATE_DIR the state is in the checkout, wherever the command is called from.

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
