"""docker-compose.yml is complete, exposes only what it should, and runs."""

import re
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, ComposeService, DockerCompose
from tests.deploy.conftest import TOKENS
from tests.deploy.coverage_check import assert_all_exercised
from tests.deploy.image import copied, instructions

EXERCISED = {
    "alertmanager/alertmanager.yml": "test_alertmanager.py, ../docker/test_containers.py",
    "edge/haproxy.cfg": "test_edge.py, ../docker/test_containers.py",
    "env.sh": "test_env.py",
    "healthcheck.sh": "test_image.py",
    "grafana/mixin.libsonnet": "test_mixin.py",
    "grafana/dashboards/*.json": "test_dashboards.py",
    "grafana/provisioning/*/*.yml": "test_dashboards.py, ../docker/test_containers.py",
    "kafka/*": "../docker/test_containers.py",
    "kubernetes/*.md": "test_kubernetes_readme.py",
    "kubernetes/[bco]*/**/*.*": "test_kubernetes.py, test_kubernetes_parts.py",
    "prometheus/prometheus.yml": "test_retention.py, test_rules.py, ../docker/test_containers.py",
    "prometheus/rules/*.yml": "test_rules.py, ../docker/test_containers.py",
    "prometheus/tests/*_test.yml": "test_rules.py",
    "vmalert/*.yml": "test_retention.py, test_rules.py, ../docker/test_containers.py",
}
"""Files of deploy/, and the tests that run the programs which read them (for Grafana: its
queries)."""
LAPTOP = "docker-compose.yml:docker-compose.laptop.yml"
OURS = {"secrets", "gateway", "processor", "exporter"}
BROKERS = {"kafka-1", "kafka-2", "kafka-3"}
OTHERS = {
    "edge",
    "prometheus",
    "alertmanager",
    "victoria-week",
    "victoria-long",
    "months",
    "grafana",
}


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
    assert "_TOKEN is not set: run `make env`" in shown.stderr


def test_it_has_no_version_which_compose_2_warns_of() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert not re.search(r"^version:", text, re.MULTILINE)


def test_it_has_every_part(services: dict[str, ComposeService]) -> None:
    assert set(services) == OURS | BROKERS | OTHERS
    for name in ("gateway", "processor", "exporter"):
        assert services[name].config["scale"] == 2


def test_what_is_scaled_has_neither_a_fixed_name_nor_a_fixed_port(
    services: dict[str, ComposeService],
) -> None:
    for name in ("gateway", "processor", "exporter"):
        config = services[name].config
        assert not {"ports", "container_name", "hostname"} & set(config)
        assert "WORKER_NAME" not in services[name].environment


def test_three_brokers_may_lose_one(services: dict[str, ComposeService]) -> None:
    for name in BROKERS:
        environment = services[name].environment
        copies = {k: v for k, v in environment.items() if k.endswith("REPLICATION_FACTOR")}
        in_sync = {v for k, v in environment.items() if k.endswith(("MIN_ISR", "INSYNC_REPLICAS"))}
        assert len(copies) == 4
        assert set(copies.values()) == {"3"}
        assert in_sync == {"2"}
    assert services["gateway"].environment["KAFKA_REPLICATION"] == "3"
    assert len({services[name].environment["KAFKA_NODE_ID"] for name in BROKERS}) == 3


def test_every_service_has_a_health_check(services: dict[str, ComposeService]) -> None:
    assert services["secrets"].config["healthcheck"] == {"test": ["NONE"]}
    assert "healthcheck" in {line.name.lower() for line in instructions(ROOT / "Dockerfile")}
    for name in BROKERS | OTHERS:
        assert services[name].config["healthcheck"]["test"]
    for name in OURS - {"secrets"}:
        assert "healthcheck" not in services[name].config


def test_the_stores_keep_what_the_guide_says(services: dict[str, ComposeService]) -> None:
    assert "--storage.tsdb.retention.time=24h" in services["prometheus"].command
    assert "-retentionPeriod=7d" in services["victoria-week"].command
    assert "-retentionPeriod=10y" in services["victoria-long"].command


def test_every_image_is_pinned(services: dict[str, ComposeService]) -> None:
    images = {services[name].config["image"] for name in BROKERS | OTHERS}
    bases = [line.words[0] for line in instructions(ROOT / "Dockerfile") if line.name == "FROM"]
    for image in [*images, *bases]:
        assert re.search(r":v?\d+\.\d+", image), f"{image} names no version"
    assert {services[name].config["image"] for name in BROKERS} == {"apache/kafka:4.3.1"}


def test_no_container_may_do_more_than_it_must(services: dict[str, ComposeService]) -> None:
    for service in services.values():
        assert service.config["cap_drop"] == ["ALL"]
        assert service.config["security_opt"] == ["no-new-privileges:true"]
        assert service.config["read_only"] is (service.name not in BROKERS)


def test_no_service_names_the_image_that_another_builds(
    services: dict[str, ComposeService],
) -> None:
    """Each build labels the image for its service, and Compose 2 would recreate the others."""
    for name in OURS:
        assert services[name].config["build"] == {
            "context": services[name].config["build"]["context"]
        }
        assert "image" not in services[name].config


def test_numbers_of_copies_can_be_set_in_env(docker_compose: DockerCompose, clone: Path) -> None:
    for files, default in (("docker-compose.yml", 2), (LAPTOP, 1)):
        services = docker_compose.services(clone, **TOKENS, COMPOSE_FILE=files)
        assert {services[name].config["scale"] for name in ("gateway", "processor")} == {default}
        variables = {"GATEWAYS": "4", "PROCESSORS": "6", "COMPOSE_FILE": files}
        services = docker_compose.services(clone, **TOKENS, **variables)
        assert services["gateway"].config["scale"] == 4
        assert services["processor"].config["scale"] == 6


def test_brokers_leave_no_anonymous_volume(services: dict[str, ComposeService]) -> None:
    """The image declares three volumes."""
    for name in BROKERS:
        covered = {mount.target for mount in services[name].mounts} | set(
            services[name].config["tmpfs"]
        )
        assert covered == {"/etc/kafka/secrets", "/mnt/shared/config", "/var/lib/kafka/data"}


def test_the_image_does_not_run_as_root() -> None:
    user = [line for line in instructions(ROOT / "Dockerfile") if line.name == "USER"][-1]
    assert user.text == "10001:10001"


def test_prometheus_may_read_the_token_and_nothing_else_of_ours(
    services: dict[str, ComposeService],
) -> None:
    prometheus = services["prometheus"]
    assert prometheus.config["group_add"] == ["10001"]
    assert {mount.source for mount in prometheus.mounts if not mount.read_only} == {"prometheus"}
    assert "secrets" not in {mount.source for mount in prometheus.mounts}


def test_only_who_needs_a_secret_has_it(services: dict[str, ComposeService]) -> None:
    holders = {
        name
        for name, service in services.items()
        if "ADMIN_TOKEN" in service.environment
        or "secrets" in {mount.source for mount in service.mounts}
    }
    assert holders == {"secrets", "gateway"}


def test_nothing_unprotected_is_open_to_the_network(services: dict[str, ComposeService]) -> None:
    published = {
        name: [str(port) for port in service.config["ports"]]
        for name, service in services.items()
        if "ports" in service.config
    }
    assert len(published.pop("edge")) == 2
    assert set(published) == {"prometheus", "alertmanager", "grafana"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)


def test_data_outlives_the_containers(services: dict[str, ComposeService]) -> None:
    for name in BROKERS:
        kafka = services[name]
        assert kafka.environment["KAFKA_LOG_DIRS"] in {mount.target for mount in kafka.mounts}
    kept = {mount.source for service in services.values() for mount in service.mounts}
    assert {"prometheus", "alertmanager", "victoria-week", "victoria-long", "grafana"} <= kept


def test_every_file_that_is_mounted_is_there(services: dict[str, ComposeService]) -> None:
    mounted = [Path(m.source) for s in services.values() for m in s.mounts if "/" in m.source]
    assert len(mounted) == 9
    for folder in mounted:
        assert list(folder.iterdir()), f"{folder} is empty"


def test_the_image_has_every_package_and_their_requirements() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench", "tools"}
    assert packages <= set(copied(ROOT / "Dockerfile"))
    installs = [
        line.text
        for line in instructions(ROOT / "Dockerfile")
        if line.name == "RUN" and "pip install" in line.text
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in line for line in installs[:2])
    assert all("--no-build-isolation" in line for line in installs[1:])
    assert "--no-deps" in installs[2]


def test_the_build_is_sent_what_it_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == set(copied(ROOT / "Dockerfile"))


def test_gateways_trust_the_edge_and_nobody_can_reach_them_but_through_it(
    docker_compose: DockerCompose, clone: Path
) -> None:
    given: list[dict[str, str]] = [{}, {"SUBNET": "10.99.0.0/24"}]
    for variables in given:
        shown = docker_compose.config(clone, **TOKENS, **variables)
        document = docker_compose.load_yaml(shown.stdout)
        (network,) = document["networks"]["default"]["ipam"]["config"]
        gateway = document["services"]["gateway"]
        assert gateway["environment"]["TRUSTED_PROXIES"] == network["subnet"]
        assert "ports" not in gateway
        assert all("networks" not in service for service in document["services"].values())


def test_every_file_of_deploy_is_exercised() -> None:
    assert_all_exercised(ROOT / "deploy", EXERCISED)
