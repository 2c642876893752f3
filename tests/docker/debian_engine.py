"""A Docker engine from Debian's packages, with a socket, folders and a network of its own.

Its images stay in the cache. Everything else that it makes is removed when it stops.
"""

import contextlib
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.docker.engine import Engine
from tests.docker.go_programs import compose
from tests.docker.own_network import DNS, OwnNetwork, own_network
from tobogganing.devstack import process
from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tools import debian

PACKAGES = ("docker.io", "containerd", "runc", "iptables")
LIBRARIES = (
    *("libip4tc2", "libip6tc2", "libltdl7", "libmnl0"),
    *("libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11", "libxtables12"),
)
START_TIMEOUT = 120
STOP_TIMEOUT = 60


@contextlib.contextmanager
def debian_engine() -> Iterator[Engine]:
    """Start an engine. It has no images but those that are built here."""
    assert os.geteuid() == 0, "an engine can be started by root only"
    state = cache_folder() / "docker"
    with tempfile.TemporaryDirectory(prefix="docker-") as scratch, exclusive(state / "lock"):
        folder = Path(scratch)
        environ = os.environ | _programs(folder / "bin") | _plugins(folder / "config")
        environ |= {"DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_BUILDKIT": "0"}
        with own_network() as network, _daemon(folder, state, environ, network) as engine:
            _remove_containers(engine)
            try:
                yield engine
            finally:
                _remove_containers(engine)


@contextlib.contextmanager
def _daemon(
    folder: Path, state: Path, environ: Mapping[str, str], network: OwnNetwork
) -> Iterator[Engine]:
    log = state / "dockerd.log"
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with log.open("wb") as output, network.entered():
        child = process.start(
            [
                # Its mounts end with its last process, also if it is killed.
                *("/usr/bin/env", "unshare", "--mount", "dockerd"),
                f"--data-root={state}/data",
                # The same at each start: it finds the containers of one that was killed.
                f"--exec-root={state}/exec",
                f"--pidfile={folder}/pid",
                f"--host=unix://{folder}/socket",
                f"--dns={DNS}",
                # As newer engines do, with a hard limit that this process may set.
                f"--default-ulimit=nofile=1024:{min(files, 524_288)}",
            ],
            environ=environ,
            output=output,
        )
    engine = Engine(environ, has_registry=False, network=network.entered)
    try:
        _wait_for_start(engine, child, log)
        yield engine
    finally:
        child.terminate()
        child.wait(STOP_TIMEOUT)


def _programs(folder: Path) -> dict[str, str]:
    """The environment that finds the programs of the packages and their libraries."""
    folder.mkdir()
    packages = debian.unpacked(*PACKAGES)
    (tini,) = debian.unpacked("tini")
    (folder / "docker-init").symlink_to(tini / "usr/bin/tini-static")
    iptables = packages[PACKAGES.index("iptables")]
    for name in ("iptables", "ip6tables"):
        (folder / name).symlink_to(iptables / f"usr/sbin/{name}-nft")
    folders = [folder, *(each / "usr" / name for each in packages for name in ("bin", "sbin"))]
    libraries = {
        file.parent for each in debian.unpacked(*LIBRARIES) for file in each.rglob("lib*.so.*")
    }
    (extensions,) = iptables.rglob("xtables")
    return {
        "PATH": ":".join(map(str, [*folders, "/usr/sbin:/usr/bin:/sbin:/bin"])),
        "LD_LIBRARY_PATH": ":".join(sorted(map(str, libraries))),
        "XTABLES_LIBDIR": str(extensions),
    }


def _plugins(folder: Path) -> dict[str, str]:
    """The environment in which `docker` has Compose."""
    (folder / "cli-plugins").mkdir(parents=True)
    (folder / "cli-plugins/docker-compose").symlink_to(compose())
    return {"DOCKER_CONFIG": str(folder)}


def _wait_for_start(engine: Engine, child: process.Process, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not engine.docker("info", "--format", "{{.ServerVersion}}", check=False).strip():
        assert child.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


def _remove_containers(engine: Engine) -> None:
    """Remove containers, networks and volumes, also those of a run that was killed."""
    if containers := engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", "--volumes", *containers)
    for kind in ("network", "volume"):
        engine.docker(kind, "prune", "--force")
