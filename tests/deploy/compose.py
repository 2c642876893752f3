"""docker-compose.yml as docker-compose itself reads it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.debian import unpacked

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
"""Debian's own Python, if it is there: the packages are built for it."""
PACKAGES = (
    "docker-compose",
    "python3-attr",
    "python3-certifi",
    "python3-chardet",
    "python3-charset-normalizer",
    "python3-distutils",
    "python3-docker",
    "python3-dockerpty",
    "python3-docopt",
    "python3-dotenv",
    "python3-idna",
    "python3-jsonschema",
    "python3-pkg-resources",
    "python3-pyrsistent",
    "python3-requests",
    "python3-six",
    "python3-texttable",
    "python3-urllib3",
    "python3-websocket",
    "python3-yaml",
)
TO_JSON = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"


class Mount(NamedTuple):
    """A volume of a service: what is mounted, where, and whether it is read-only."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class ComposeService:
    """One service as docker-compose would start it."""

    name: str
    config: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.config.get("environment", {}))

    @property
    def command(self) -> list[str]:
        return list(self.config["command"])

    @property
    def health_command(self) -> list[str]:
        kind, *command = list[str](self.config["healthcheck"]["test"])
        assert kind == "CMD"
        return command

    @property
    def mounts(self) -> list[Mount]:
        found = []
        for text in self.config.get("volumes", []):
            source, target, *mode = text.split(":")
            found.append(Mount(source, target, mode == ["ro"]))
        return found


class DockerCompose:
    """Debian's docker-compose."""

    def __init__(self) -> None:
        folders = unpacked(*PACKAGES)
        self._script = folders[0] / "usr/bin/docker-compose"
        libraries = [
            folder / library
            for folder in folders
            for library in ("usr/lib/python3/dist-packages", "usr/lib/python3.11")
        ]
        self._environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, libraries))}

    def config(self, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `docker-compose config` in a folder, with nothing else in the environment."""
        return subprocess.run(
            [PYTHON, self._script, "config"],
            cwd=folder,
            env=self._environ | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def services(self, folder: Path, **variables: str) -> dict[str, ComposeService]:
        """The services that `config` shows."""
        shown = self.config(folder, **variables)
        assert shown.returncode == 0, shown.stderr
        services = self.load_yaml(shown.stdout)["services"]
        return {name: ComposeService(name, config) for name, config in services.items()}

    def load_yaml(self, text: str) -> dict[str, Any]:
        """A YAML document, read by the library that docker-compose has."""
        converted = subprocess.run(
            [PYTHON, "-c", TO_JSON],
            input=text,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        document: dict[str, Any] = json.loads(converted.stdout)
        return document
