"""The container of examples/shell, started with the commands of examples/README.md."""

import json
import os
import shlex
from pathlib import Path
from string import Template

from tests.deploy.readme import commands
from tests.docker.installation import URL, Installation
from tests.integration.versions import ROOT

ID = "shell-agent"
UID = 10001
VOLUME = "tobogganing-client"


class ShellAgent:
    """A client that cron starts each minute."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation = installation
        self._key = folder / "key"
        self._container = ""

    def start(self, key: str) -> None:
        """Run the README's `docker build` and `docker run`."""
        self._key.write_text(key, encoding="ascii")
        self._key.chmod(0o400)
        os.chown(self._key, UID, UID)
        values = {"API_KEY_FILE": str(self._key)}
        environ = {"MANAGER_URL": URL, "CLIENT_ID": ID, "INTERFACE": "lo", "SPREAD_SECONDS": "0"}
        build, run = (
            shlex.split(Template(line).substitute(values))[1:]
            for line in commands(ROOT / "examples/README.md")["Client in shell"]
            if line.startswith("docker ")
        )
        self._installation.docker(*build)
        assert run[0] == "run"
        # In the README's shell, the variables are exported.
        run = [f"{word}={environ[word]}" if word in environ else word for word in run]
        run[1:1] = ["--env", f"SPREAD_SECONDS={environ['SPREAD_SECONDS']}"]
        self._container = self._installation.docker(*run).strip()

    def health(self) -> str:
        (state,) = json.loads(self._installation.docker("inspect", self._container))
        return str(state["State"]["Health"]["Status"])

    def owner_of(self, name: str) -> int:
        """The user that has written a file of the agent's state."""
        path = f"/var/lib/tobogganing/{name}"
        words = ("exec", self._container, "stat", "-c", "%u", path)
        return int(self._installation.docker(*words))

    def remove(self) -> None:
        if self._container:
            self._installation.docker("rm", "--force", self._container)
            self._installation.docker("volume", "rm", VOLUME)
