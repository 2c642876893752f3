"""An installation with Docker Compose, used as docs/operations.md describes."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.docker.engine import Engine
from tests.docker.stand_ins import ASIDE
from tests.integration.versions import ROOT
from tobogganing.devstack.certificate import certificates_in

URL = "http://127.0.0.1:8000"
PROMETHEUS = "http://127.0.0.1:9090"
READY_TIMEOUT = 600
"""A killed gateway was healthy again after 9 s, and after 196 s at a load of 125 on two cores."""
POLL = 0.2
SCRAPED = re.compile(r'^tobogganing_client_bytes_sent\{client_id="([^"]+)".*\} (\S+)$', re.M)

T = TypeVar("T")


class Installation:
    """A project of Compose in a folder of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.folder = folder
        self._engine = replace(engine, folder=folder)

    def make_env(self, *words: str) -> None:
        subprocess.run(["make", "env", *words], cwd=self.folder, check=True, capture_output=True)

    def compose(self, *words: str, check: bool = True) -> str:
        return self._engine.docker("compose", *words, check=check)

    def docker(self, *words: str) -> str:
        return self._engine.docker(*words)

    def shell(self, command: str) -> str:
        """Run a command as a user types it in the folder; return its standard output."""
        return self._engine.shell(command)

    def up(self, *words: str) -> float:
        """`docker compose up --detach --wait`; return the seconds that it takes."""
        began = time.monotonic()
        # Compose pulls images of services without containers, too.
        aside = ["--pull=never", *(f"--scale={name}=0" for name in ASIDE)]
        if self._engine.has_registry:
            aside = []
        self.compose("up", "--detach", "--wait", *aside, *words)
        return time.monotonic() - began

    def containers(self, *services: str) -> dict[str, dict[str, Any]]:
        """What `docker inspect` shows of each running container, by its name.

        `--all` includes those that have stopped.
        """
        ids = self.compose("ps", "--quiet", *services).split()
        found = json.loads(self.docker("inspect", *ids)) if ids else []
        return {each["Name"].removeprefix("/"): each for each in found}

    def kill_process(self, container: str) -> None:
        """Kill the container's main process from the host."""
        main = int(self.docker("inspect", "--format", "{{.State.Pid}}", container))
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        # The first process is docker-init.
        os.kill(int(children[0]) if children else main, signal.SIGKILL)

    def wait_until_healthy(self, container: str, restarts: int) -> None:
        """Wait for a restart after the given number of them, and for its health check."""

        def healthy() -> bool:
            (state,) = json.loads(self.docker("inspect", container))
            return bool(
                state["RestartCount"] > restarts and state["State"]["Health"]["Status"] == "healthy"
            )

        wait_for(healthy, container)

    def secret(self, name: str) -> str:
        text = (self.folder / ".env").read_text(encoding="ascii")
        return dict(line.split("=", 1) for line in text.splitlines())[name]

    def set(self, name: str, value: str) -> None:
        """Set a variable in .env."""
        file = self.folder / ".env"
        lines = file.read_text(encoding="ascii").splitlines()
        others = [line for line in lines if not line.startswith(f"{name}=")]
        file.write_text("\n".join([*others, f"{name}={value}", ""]), encoding="ascii")

    def http(self, url: str = URL, token: str = "METRICS_TOKEN", **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.secret(token)}"}
        return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False, **options)

    def values(self, *receipts: str) -> dict[str, int]:
        """The values of a scrape that has everything up to these receipts."""

        def scraped() -> httpx.Response | None:
            with self.http() as http:
                response = http.get("/metrics", params={"after": receipts})
                return response if response.status_code == 200 else None

        found = SCRAPED.findall(wait_for(scraped, "scrape").text)
        return {id: int(float(value)) for id, value in found}


def checkout(folder: Path, mask: int = 0o022) -> Path:
    """Copy the files of this repository, as a clone with this umask has them."""
    names = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    before = os.umask(mask)
    try:
        for name in names:
            if not (ROOT / name).is_file():
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    finally:
        os.umask(before)
    return folder


def trusting(pem: str) -> ssl.SSLContext:
    """Trust the certificates in a PEM text."""
    return ssl.create_default_context(cadata=certificates_in(pem))


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """The first result that is true. Connections may fail until then."""
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        try:
            if result := condition():
                return result
        except httpx.TransportError:
            pass
        time.sleep(POLL)
    raise AssertionError(f"{what}: not within {READY_TIMEOUT} s")
