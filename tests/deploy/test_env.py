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


MINE = "mine-of-sixteen-characters"


@pytest.mark.parametrize(
    "line",
    [
        f"METRICS_TOKEN={MINE}",
        f"METRICS_TOKEN={MINE}\r\nOTHER=1",
        f"export METRICS_TOKEN={MINE}",
        f"  export   METRICS_TOKEN={MINE}\n",
        f"METRICS_TOKEN = {MINE}\n",
        f"METRICS_TOKEN={MINE} # ours",
        f"METRICS_TOKEN='{MINE}'",
        f'METRICS_TOKEN="{MINE}"\n',
        f"\ufeffMETRICS_TOKEN={MINE}\n",
    ],
)
def test_every_spelling_that_docker_compose_knows_is_known(
    checkout: Path, docker_compose: DockerCompose, line: str
) -> None:
    (checkout / ".env").write_bytes(line.encode())
    said = make_env(checkout)
    assert "METRICS_TOKEN" not in said
    content = (checkout / ".env").read_bytes().decode()
    assert content.startswith(line)
    assert content.count("METRICS_TOKEN") == 1
    assert re.fullmatch(r"\r?\n?ADMIN_TOKEN=[0-9a-f]{64}\n", content.removeprefix(line))
    if "=" + MINE in line and "export" not in line and "\ufeff" not in line:
        tokens = docker_compose.services(checkout)["exporter"].environment
        assert tokens["METRICS_TOKEN"] == MINE


@pytest.mark.parametrize(
    "line",
    [
        *("METRICS_TOKEN=", "METRICS_TOKEN=\r\n", "METRICS_TOKEN=''", 'METRICS_TOKEN=""\n'),
        *(
            "METRICS_TOKEN= # later",
            "# METRICS_TOKEN=mine",
            "OLD_METRICS_TOKEN=mine",
            "METRICS_TOKEN",
        ),
    ],
)
def test_a_variable_without_a_value_gets_one(
    checkout: Path, docker_compose: DockerCompose, line: str
) -> None:
    (checkout / ".env").write_bytes(line.encode())
    assert "METRICS_TOKEN" in make_env(checkout)
    content = (checkout / ".env").read_bytes().decode()
    assert content.startswith(line)
    assert len(re.findall(r"^METRICS_TOKEN=[0-9a-f]{64}$", content, re.MULTILINE)) == 1
    token = docker_compose.services(checkout)["exporter"].environment["METRICS_TOKEN"]
    assert re.fullmatch(r"[0-9a-f]{64}", token)


def test_containers_can_read_what_they_must_and_no_secret(checkout: Path) -> None:
    """A checkout that was made with umask 077."""
    for path in (checkout / "deploy").rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    make_env(checkout)
    for path in (checkout / "deploy").rglob("*"):
        wanted = 0o055 if path.is_dir() else 0o044
        assert path.stat().st_mode & wanted == wanted, path
        assert not path.stat().st_mode & 0o022
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
