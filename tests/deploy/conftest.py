"""Fixtures of the deployment tests."""

import shutil
from pathlib import Path

import pytest

from tests.debian import give_up
from tests.deploy import fleet, program_log
from tests.deploy.compose import ROOT, ComposeService, DockerCompose
from tests.deploy.manifests import OVERLAYS, Manifests
from tests.e2e.prometheus import NoPrometheusError, Programs, find_programs

TOKENS = {"METRICS_TOKEN": "metrics-token-of-the-tests", "ADMIN_TOKEN": "admin-token-of-the-tests"}


@pytest.fixture(scope="session")
def docker_compose() -> DockerCompose:
    return DockerCompose()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files of a fresh clone that docker-compose reads: no .env, no state."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for file in ROOT.glob("docker-compose*.yml"):
        shutil.copy(file, folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    return folder


@pytest.fixture
def services(docker_compose: DockerCompose, clone: Path) -> dict[str, ComposeService]:
    return docker_compose.services(clone, **TOKENS)


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.of(request.param)


@pytest.fixture(scope="module")
def production() -> Manifests:
    return Manifests.of("production")


@pytest.fixture(scope="session")
def prometheus_programs() -> Programs:
    try:
        return find_programs()
    except NoPrometheusError as error:
        give_up(str(error))


@pytest.fixture(scope="session")
def go_binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs of examples/go."""
    return fleet.build(tmp_path_factory.mktemp("go"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if program_log.programs:
        terminalreporter.section("started by the tests of the deployment, and stopped again")
        for line in program_log.lines():
            terminalreporter.write_line(line)
