"""A Docker engine with the images that an installation needs; installations of both profiles."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.engine import Engine, running_engine
from tests.docker.installation import Installation, checkout
from tests.docker.stand_ins import make_stand_ins

PUBLISHED = (8000, 8443, 9090, 9093, 3000)
_notes: list[str] = []


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        _notes.append(engine.docker("version", "--format", "engine {{.Server.Version}}").strip())
        _notes.append(engine.docker("compose", "version").strip())
        _notes.extend(make_stand_ins(engine))
        with engine.network():
            for port in PUBLISHED:
                with socket.socket() as probe:
                    assert probe.connect_ex(("127.0.0.1", port)), f"port {port} is in use"
            yield engine


@pytest.fixture(scope="module")
def installation(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A folder without files, whose containers and volumes are removed at the end."""
    installation = Installation(engine, tmp_path_factory.mktemp("tobogganing-"))
    try:
        yield installation
    finally:
        if (installation.folder / ".env").exists():
            # The image stays: its layers are the cache of the next build.
            installation.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def private_clone(installation: Installation) -> Path:
    """Fill the installation's folder as a clone with umask 077 does."""
    return checkout(installation.folder, 0o077)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _notes:
        terminalreporter.section("what this ran with")
        for line in _notes:
            terminalreporter.write_line(line)
