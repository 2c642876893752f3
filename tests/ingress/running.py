"""The proxies of ingress controllers: Debian's nginx and HAProxy, with generated configurations."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.debian import or_give_up
from tests.deploy.kubectl import built, load_yaml
from tests.deploy.manifests import KUBERNETES, Manifests
from tests.ingress import haproxy_controller, nginx_controller
from tests.ingress.rules import Site
from tests.nginx import PATIENCE, POLL, listens
from tobogganing.devstack import process
from tobogganing.devstack.ports import free_ports
from tools import debian

CONTROLLERS = ("ingress-haproxy", "ingress-nginx")
"""Components of deploy/kubernetes."""
NGINX_FIRST = (pytest.param(CONTROLLERS[0], marks=pytest.mark.long), CONTROLLERS[1])
"""The same for tests whose short form has nginx only. HAProxy is tested as the edge, too."""
DEFAULT = "  - ../../components/ingress-haproxy\n"
PROGRAMS: Mapping[str, Callable[[], debian.Program]] = {
    "ingress-haproxy": debian.haproxy,
    "ingress-nginx": lambda: debian.program("nginx", "usr/sbin/nginx"),
}


class Ports(NamedTuple):
    http: int
    https: int


def production_with(controller: str, folder: Path, *components: str) -> Manifests:
    """Build the overlay `production` with this controller, other components, and localhost."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    overlay = copy / "overlays/production"
    file = overlay / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    assert DEFAULT in text
    lines = "".join(f"  - ../../components/{name}\n" for name in (controller, *components))
    file.write_text(text.replace(DEFAULT, lines), encoding="utf-8")
    file = overlay / "ingress.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("metrics.example.org", "localhost"), encoding="utf-8")
    return Manifests(built(overlay))


def controller_settings(controller: str, *components: str) -> dict[str, str]:
    """Return what the README lets users set in the controller's own ConfigMap."""
    found: dict[str, str] = {}
    for component in (controller, *components):
        file = (
            KUBERNETES
            / "components"
            / component
            / f"controller-{controller.removeprefix('ingress-')}.yaml"
        )
        if file.exists():
            (patch,) = load_yaml(file.read_text(encoding="utf-8"))
            assert set(patch) == {"data"}
            found |= patch["data"]
    return found


@contextlib.asynccontextmanager
async def ingress(controller: str, site: Site, folder: Path) -> AsyncIterator[Ports]:
    """Run the proxy of a controller until the context ends."""
    program = or_give_up(PROGRAMS[controller])
    ports = Ports(*free_ports(2))
    config, log = folder / f"{controller}.conf", folder / f"{controller}.log"
    if controller == "ingress-nginx":
        config.write_text(nginx_controller.configuration(site, folder, *ports))
        command: list[str | Path] = [program.path, "-p", folder, "-c", config]
        command += ["-e", folder / "nginx-error.log"]
    else:
        config.write_text(haproxy_controller.configuration(site, folder, *ports))
        command = [program.path, "-db", "-f", config]
    with log.open("wb") as output:
        child = process.start(command, environ=program.environ, output=output)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await listens(ports.https):
                assert child.poll() is None, log.read_text()
                await asyncio.sleep(POLL)
        yield ports
    finally:
        await process.stop(child, 5)
