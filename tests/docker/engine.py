"""A Docker engine with Compose 2: the machine's, or one that is started from Debian's packages."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_TIMEOUT = 1800
"""An image that is not in the cache is built on a busy machine."""


@dataclass(frozen=True)
class Engine:
    """Runs `docker` commands.

    `has_registry` says whether images can be pulled. The engine that is started here has none; its
    images are stand-ins.
    """

    environ: Mapping[str, str]
    has_registry: bool
    network: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Enters the network in which the ports of containers are published."""
    folder: Path = field(default_factory=Path.cwd)

    def docker(self, *words: str | Path, check: bool = True) -> str:
        """Run a command; return what it writes to standard output."""
        return self._run(["docker", *words], check)

    def shell(self, command: str) -> str:
        """Run a command of a shell; return what it writes to standard output."""
        return self._run(["sh", "-c", command], check=True)

    def _run(self, command: Sequence[str | Path], check: bool) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        output = f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
        assert done.returncode == 0 or not check, output + self._unhealthy(output)
        return done.stdout

    def _unhealthy(self, output: str) -> str:
        """Return the last checks and log lines of containers that Compose calls unhealthy."""
        found = ""
        for name in re.findall(r"container (\S+) is unhealthy", output):
            checks = self.docker(
                "inspect", "--format", "{{json .State.Health.Log}}", name, check=False
            )
            logs = self.shell(f"docker logs --tail 40 {name} 2>&1 || true")
            found += f"\n{name}\n{checks[-3000:]}\n{logs[-6000:]}"
        return found


def machine_engine() -> Engine | None:
    """The engine of this machine, if `docker compose` reaches one."""
    if not shutil.which("docker"):
        return None
    for words in (("info", "--format", "{{.ServerVersion}}"), ("compose", "version")):
        done = subprocess.run(["docker", *words], capture_output=True, check=False, timeout=60)
        if done.returncode:
            return None
    return Engine(os.environ, has_registry=True)


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """The machine's engine if it responds, else one of our own, which is stopped at the end."""
    from tests.docker.debian_engine import debian_engine

    if machine := machine_engine():
        yield machine
        return
    with debian_engine() as engine:
        yield engine
