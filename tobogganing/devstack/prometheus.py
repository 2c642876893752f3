"""A Prometheus for the local run, with this project's rules: the system's, else Debian's."""

import asyncio
import json
import os
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tobogganing.devstack import process
from tobogganing.devstack.debian import program
from tobogganing.devstack.ports import LOOPBACK, free_ports, is_free
from tobogganing.devstack.run_config import CHECKOUT, RunConfig
from tobogganing.devstack.secrets import OWNER_ONLY, SecretSource, write_file
from tobogganing.devstack.supervisor import SupervisedPart
from tobogganing.errors import LocalError

PORT = 9090
"""Prometheus's usual port; another one if it is taken."""
FOLLOW_TOKEN = 1.0
"""Seconds between two checks whether METRICS_TOKEN has changed."""


def prometheus_program(name: str = "prometheus") -> Path:
    """Prometheus or promtool: the one on the PATH, else that of Debian's package.

    Raises:
        LocalError: no Prometheus was found, and none could be downloaded.
    """
    if found := shutil.which(name):
        return Path(found)
    return program("prometheus", f"usr/bin/{name}").path


def rules_folder() -> Path:
    """The folder of the alert rules, in the checkout or in an installed package."""
    rules = CHECKOUT / "deploy" / "prometheus" / "rules"
    if rules.is_dir():
        return rules
    return Path(sysconfig.get_path("data")) / "share" / "tobogganing" / "prometheus" / "rules"


@dataclass(frozen=True)
class LocalPrometheus:
    binary: Path
    folder: Path
    port: int
    metrics_token: SecretSource

    @classmethod
    def prepare(cls, config: RunConfig, sources: Sequence[SecretSource]) -> "LocalPrometheus":
        """Find or download the program, and choose a port.

        Raises:
            LocalError: there is no Prometheus, and none could be downloaded.
        """
        try:
            binary = prometheus_program()
        except LocalError as error:
            raise LocalError(
                "PROMETHEUS=1: no prometheus on the PATH, and Debian's package could not be "
                f"downloaded ({error}): install Prometheus, or start without PROMETHEUS=1"
            ) from None
        folder = config.state / "prometheus"
        folder.mkdir(parents=True, exist_ok=True)
        (token,) = (source for source in sources if source.name == "METRICS_TOKEN")
        port = PORT if config.port != PORT and is_free(PORT) else free_ports(1)[0]
        return cls(binary, folder, port, token)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def part(self, targets: Mapping[str, str]) -> SupervisedPart:
        """The process; `targets` are the base URLs of the services."""
        self._write_token()
        config = json.dumps(self._config(targets), indent=2)  # JSON is YAML
        (self.folder / "prometheus.yml").write_text(config, encoding="utf-8")
        return SupervisedPart("prometheus", self._launch)

    async def follow_token(self) -> None:
        """Keep the scraper's token the first of METRICS_TOKEN. Runs until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_TOKEN)
            self._write_token()

    @property
    def _token_file(self) -> Path:
        return self.folder / "metrics-token"

    def _write_token(self) -> None:
        """Write the first token; Prometheus reads the file at each scrape."""
        file = self.metrics_token.file
        try:
            text = file.read_text("utf-8") if file else os.environ[self.metrics_token.name]
            token = text.replace(",", " ").split()[0]
            written = self._token_file.read_text("utf-8") if self._token_file.exists() else None
            if token != written:
                write_file(self._token_file, token, OWNER_ONLY)
        except (OSError, LookupError, UnicodeDecodeError):
            return  # the services report the error, and keep the last token

    def _config(self, targets: Mapping[str, str]) -> dict[str, Any]:
        jobs = [
            {
                "job_name": f"tobogganing-{'manager' if name == 'serve' else name}",
                "scheme": url.partition("://")[0],
                "tls_config": {"insecure_skip_verify": True},  # loopback, to our own process
                "authorization": {"credentials_file": str(self._token_file)},
                "static_configs": [{"targets": [url.partition("://")[2]]}],
            }
            for name, url in targets.items()
        ]
        own = {
            "job_name": "prometheus",
            "static_configs": [{"targets": [f"{LOOPBACK}:{self.port}"]}],
        }
        return {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
            "rule_files": [f"{rules_folder()}/*.yml"],
            "scrape_configs": [*jobs, own],
        }

    def _launch(self) -> process.Process:
        log = (self.folder / "prometheus.log").open("wb")
        with log:
            return process.start(
                [
                    self.binary,
                    f"--config.file={self.folder}/prometheus.yml",
                    f"--storage.tsdb.path={self.folder}/data",
                    f"--web.listen-address={LOOPBACK}:{self.port}",
                ],
                environ={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
                output=log,
            )
