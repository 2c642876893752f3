"""`make env`: the secrets of an installation in .env."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, DockerCompose
from tests.deploy.conftest import TOKENS


@pytest.fixture
def checkout(clone: Path) -> Path:
    shutil.copy(ROOT / "Makefile", clone)
    return clone


def make_env(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", "env", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def values(checkout: Path) -> dict[str, str]:
    lines = (checkout / ".env").read_text(encoding="ascii").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_it_makes_every_secret_for_its_owner_only(checkout: Path) -> None:
    said = make_env(checkout)
    made = values(checkout)
    assert set(made) == set(TOKENS)
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in made.values())
    assert len(set(made.values())) == len(made)
    assert not any(value in said for value in made.values())
    assert stat.S_IMODE((checkout / ".env").stat().st_mode) == 0o600


def test_what_is_there_stays(checkout: Path) -> None:
    (checkout / ".env").write_text("ADMIN_TOKEN=mine\nOTHER=1\n", encoding="ascii")
    (checkout / ".env").chmod(0o644)
    make_env(checkout)
    first = values(checkout)
    assert (first["ADMIN_TOKEN"], first["OTHER"]) == ("mine", "1")
    assert "nothing was changed" in make_env(checkout)
    assert values(checkout) == first
    assert stat.S_IMODE((checkout / ".env").stat().st_mode) == 0o600


def test_nothing_else_is_needed(checkout: Path, docker_compose: DockerCompose) -> None:
    make_env(checkout)
    shown = docker_compose.config(checkout)
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_laptop_has_one_broker_and_one_of_each(
    checkout: Path, docker_compose: DockerCompose
) -> None:
    make_env(checkout, "LAPTOP=1")
    services = docker_compose.services(checkout)
    running = {name for name, one in services.items() if not one.config.get("profiles")}
    assert {name for name in running if name.startswith("kafka")} == {"kafka-1"}
    assert {services[name].config["scale"] for name in ("gateway", "processor", "exporter")} == {1}
    for name in running:
        environment = services[name].environment
        assert "kafka-2" not in str(services[name].config), name
        assert environment.get("KAFKA_REPLICATION", "1") == "1"
        factors = {n for n in environment if n.endswith(("REPLICATION_FACTOR", "_ISR", "REPLICAS"))}
        assert {environment[factor] for factor in factors} <= {"1"}
    depended = {
        needed for name in running for needed in services[name].config.get("depends_on", {})
    }
    assert depended <= running


def test_git_does_not_see_it(checkout: Path) -> None:
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
