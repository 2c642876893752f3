"""The image's version, its health check, and the wheel that it installs."""

import asyncio
import re
import subprocess
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.deploy.compose import ROOT

HEALTH_CHECK = ROOT / "deploy" / "healthcheck.sh"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass
class Site:
    """A server that responds with these statuses."""

    port: int = 0
    healthy: int = 200
    ready: int = 200

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        status = {"/-/healthy": self.healthy, "/-/ready": self.ready}[path]
        writer.write(f"HTTP/1.1 {status} x\r\nconnection: close\r\n\r\n".encode())
        writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


async def checked(port: int) -> tuple[int | None, str]:
    """Run the check; return its status and what it prints."""
    check = await asyncio.create_subprocess_exec(
        "bash", HEALTH_CHECK, env={"PORT": str(port)}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await check.communicate()
    return check.returncode, output.decode()


async def test_a_service_that_is_ready_is_healthy(site: Site) -> None:
    assert await checked(site.port) == (0, "")


@pytest.mark.parametrize("path", ["healthy", "ready"])
async def test_the_check_says_what_fails(site: Site, path: str) -> None:
    setattr(site, path, 503)
    assert await checked(site.port) == (1, f"/-/{path}: HTTP/1.1 503 x\n")


async def test_a_closed_port_is_unhealthy() -> None:
    status, _ = await checked(1)
    assert status == 1


def test_every_place_names_the_same_version() -> None:
    version = PROJECT["version"]
    assert f"ARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(version)}\]", changelog, re.M)


def test_the_metadata_is_complete() -> None:
    assert (ROOT / PROJECT["readme"]).is_file()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["keywords"]
    assert all(" :: " in each for each in PROJECT["classifiers"])


def test_scripts_of_the_image_are_valid() -> None:
    for script in (HEALTH_CHECK, ROOT / "tests/docker/images/kafka/run"):
        subprocess.run(["bash", "-n", script], check=True)
