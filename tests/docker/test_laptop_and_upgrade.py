"""One broker and one of each service; and an installation of 0.1.0 that is upgraded in place."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.docker.fleet import Fleet
from tests.docker.installation import Installation, checkout
from tests.integration.versions import FIRST_VERSION, ROOT

SERVICES = ("kafka-1", "gateway", "processor", "exporter", "edge")
"""Those of 0.1.0 whose images have not changed since, so that there are stand-ins for them."""


@pytest.fixture(scope="module")
def fleet(installation: Installation) -> Fleet:
    return Fleet(installation)


def test_the_first_version_starts_on_a_laptop(installation: Installation, fleet: Fleet) -> None:
    archive = subprocess.run(
        ["git", "-C", ROOT, "archive", FIRST_VERSION], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(installation.folder, filter="data")
    installation.make_env("LAPTOP=1")
    installation.compose("build", "gateway")
    installation.compose("up", "--detach", "--wait", "--no-build", *SERVICES)
    assert len(installation.containers()) == len(SERVICES)
    fleet.register("client")
    fleet.report()
    fleet.assert_all_shown()


def test_it_is_upgraded_as_documented(installation: Installation, fleet: Fleet) -> None:
    env = (installation.folder / ".env").read_bytes()
    for path in installation.folder.iterdir():
        if path.name != ".env":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkout(installation.folder)
    assert (installation.folder / ".env").read_bytes() == env
    installation.make_env()
    installation.compose("build")
    with fleet.reporting():
        for service in ("exporter", "processor", "gateway"):
            installation.compose("up", "--detach", "--wait", "--no-deps", service)
        installation.up()
    fleet.assert_all_shown()
    text = installation.compose("exec", "-T", "gateway", "python", "-c", VERSION)
    assert text.strip() == "0.2.0"


VERSION = "import importlib.metadata; print(importlib.metadata.version('tobogganing-metrics'))"


def test_a_laptop_has_one_of_each(installation: Installation) -> None:
    for service in ("gateway", "processor", "exporter"):
        assert len(installation.containers(service)) == 1
    assert not installation.containers("kafka-2")


def test_the_folder_of_the_checkout_is_as_before(installation: Installation) -> None:
    """No container writes into it."""
    owners = {Path(path).stat().st_uid for path in installation.folder.rglob("*")}
    assert owners == {installation.folder.stat().st_uid}
