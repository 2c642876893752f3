"""docker-compose.yml: complete, closed, and it runs."""

import re
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, DockerCompose, Service
from tests.deploy.conftest import TOKENS
from tests.deploy.image import copied, instructions

OURS = {"secrets", "gateway", "processor", "exporter"}


def test_two_tokens_are_all_it_needs(docker_compose: DockerCompose, clone: Path) -> None:
    shown = docker_compose.config(clone, **TOKENS)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("missing", TOKENS)
def test_it_says_which_token_is_missing(
    docker_compose: DockerCompose, clone: Path, missing: str
) -> None:
    others = {name: token for name, token in TOKENS.items() if name != missing}
    shown = docker_compose.config(clone, **others)
    assert shown.returncode != 0
    assert f"{missing} is not set" in shown.stderr


def test_without_any_token_it_says_so(docker_compose: DockerCompose, clone: Path) -> None:
    shown = docker_compose.config(clone)
    assert shown.returncode != 0
    assert "_TOKEN is not set: make one" in shown.stderr


def test_it_has_no_version_which_compose_2_warns_of() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert not re.search(r"^version:", text, re.MULTILINE)


def test_it_has_every_part(services: dict[str, Service]) -> None:
    assert set(services) == OURS | {"kafka", "prometheus"}


def test_every_image_is_pinned(services: dict[str, Service]) -> None:
    images = {service.config["image"] for service in services.values()}
    bases = [line.words[0] for line in instructions(ROOT / "Dockerfile") if line.name == "FROM"]
    for image in [*images, *bases]:
        assert re.search(r":v?\d+\.\d+", image), f"{image} names no version"
    assert services["kafka"].config["image"] == "apache/kafka:4.3.1"


def test_no_container_may_do_more_than_it_must(services: dict[str, Service]) -> None:
    for service in services.values():
        assert service.config["cap_drop"] == ["ALL"]
        assert service.config["security_opt"] == ["no-new-privileges:true"]
        assert service.config["read_only"] is (service.name != "kafka")


def test_the_image_does_not_run_as_root() -> None:
    user = [line for line in instructions(ROOT / "Dockerfile") if line.name == "USER"][-1]
    assert user.text == "10001:10001"


def test_prometheus_may_read_the_token_and_nothing_else_of_ours(
    services: dict[str, Service],
) -> None:
    prometheus = services["prometheus"]
    assert prometheus.config["group_add"] == ["10001"]
    assert {mount.source for mount in prometheus.mounts if not mount.read_only} == {"prometheus"}
    assert "secrets" not in {mount.source for mount in prometheus.mounts}


def test_only_who_needs_a_secret_has_it(services: dict[str, Service]) -> None:
    holders = {
        name
        for name, service in services.items()
        if "ADMIN_TOKEN" in service.environment
        or "secrets" in {mount.source for mount in service.mounts}
    }
    assert holders == {"secrets", "gateway"}


def test_nothing_unprotected_is_open_to_the_network(services: dict[str, Service]) -> None:
    published = {name: service.config.get("ports", []) for name, service in services.items()}
    assert {name for name, ports in published.items() if ports} == {
        "gateway",
        "exporter",
        "prometheus",
    }
    assert all(str(port).startswith("127.0.0.1:") for port in published["prometheus"])


def test_data_outlives_the_containers(services: dict[str, Service]) -> None:
    kafka = services["kafka"]
    assert kafka.environment["KAFKA_LOG_DIRS"] in {mount.target for mount in kafka.mounts}


def test_the_image_has_every_package_and_their_requirements() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(copied(ROOT / "Dockerfile"))
    installs = [
        line.text
        for line in instructions(ROOT / "Dockerfile")
        if line.name == "RUN" and "pip install" in line.text
    ]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps" in installs[1]


def test_the_build_is_sent_what_it_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == set(copied(ROOT / "Dockerfile"))
