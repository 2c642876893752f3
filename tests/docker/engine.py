"""A Docker engine with Compose 2: the machine's, or one that is started from Debian's packages."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docker.go_programs import compose
from tobogganing.devstack import process
from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tools import debian

PACKAGES = ("docker.io", "containerd", "runc", "tini", "iptables")
LIBRARIES = (
    *("libip4tc2", "libip6tc2", "libltdl7", "libmnl0"),
    *("libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11", "libxtables12"),
)
START_TIMEOUT = 120
STOP_TIMEOUT = 60
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
    folder: Path = field(default_factory=Path.cwd)

    def docker(self, *words: str | Path, check: bool = True, **environ: str) -> str:
        """Run a command; return what it writes to standard output."""
        done = subprocess.run(
            ["docker", *words],
            cwd=self.folder,
            env=dict(self.environ) | environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        output = f"docker {' '.join(map(str, words))}\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
        assert done.returncode == 0 or not check, output
        return done.stdout

    def has_image(self, name: str) -> bool:
        return bool(self.docker("images", "--quiet", name).strip())


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """The machine's engine if it responds, else one of our own, which is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="docker-") as folder:
        config = Path(folder) / "config"
        plugins = config / "cli-plugins"
        plugins.mkdir(parents=True)
        if machine := _machine_engine():
            yield machine
            return
        (plugins / "docker-compose").symlink_to(compose())
        with _own_engine(Path(folder), {"DOCKER_CONFIG": str(config)}) as engine:
            yield engine


def _machine_engine() -> Engine | None:
    """The engine of this machine, if `docker compose` reaches one."""
    if not shutil.which("docker"):
        return None
    for words in (("info", "--format", "{{.ServerVersion}}"), ("compose", "version")):
        done = subprocess.run(["docker", *words], capture_output=True, check=False, timeout=60)
        if done.returncode:
            return None
    return Engine(os.environ, has_registry=True)


@contextlib.contextmanager
def _own_engine(folder: Path, config: dict[str, str]) -> Iterator[Engine]:
    """Start dockerd with a socket of its own. Its images stay in the cache."""
    assert os.geteuid() == 0, "an engine can be started by root only"
    environ = os.environ | _programs(folder / "bin") | config
    socket = folder / "docker.sock"
    environ |= {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
    state = cache_folder() / "docker"
    state.mkdir(parents=True, exist_ok=True)
    with exclusive(state / "lock"), (state / "dockerd.log").open("wb") as log:
        child = process.start(
            [
                "/usr/bin/env",
                "dockerd",
                f"--data-root={state}/data",
                f"--exec-root={folder}/exec",
                f"--pidfile={folder}/pid",
                f"--host=unix://{socket}",
                f"--userland-proxy-path={folder}/bin/docker-proxy",
                # The default of newer engines.
                "--default-ulimit=nofile=1024:524288",
            ],
            environ=environ,
            output=log,
        )
        try:
            engine = Engine(environ, has_registry=False)
            _wait_for_start(engine, child, state / "dockerd.log")
            yield engine
        finally:
            child.terminate()
            child.wait(STOP_TIMEOUT)


def _programs(folder: Path) -> dict[str, str]:
    """Link the programs of the packages into one folder; return the environment that finds them."""
    folder.mkdir()
    packages = debian.unpacked(*PACKAGES)
    for package in packages:
        for where in ("usr/bin", "usr/sbin"):
            for file in (package / where).glob("*"):
                (folder / file.name).symlink_to(file)
    (folder / "docker-init").unlink(missing_ok=True)
    (folder / "docker-init").symlink_to(packages[PACKAGES.index("tini")] / "usr/bin/tini-static")
    iptables = packages[PACKAGES.index("iptables")]
    for name in ("iptables", "ip6tables"):
        (folder / name).symlink_to(iptables / f"usr/sbin/{name}-nft")
    libraries = {
        str(file.parent) for each in debian.unpacked(*LIBRARIES) for file in each.rglob("lib*.so.*")
    }
    (extensions,) = iptables.rglob("xtables")
    return {
        "PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH": ":".join(sorted(libraries)),
        "XTABLES_LIBDIR": str(extensions),
    }


def _wait_for_start(engine: Engine, child: process.Process, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not engine.docker("info", "--format", "{{.ServerVersion}}", check=False).strip():
        assert child.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)
