"""deploy/kubernetes/README.md: its commands, one after the other."""

from pathlib import Path

import pytest

from service.config.secrets import split_tokens
from tests.deploy.kubectl import VERSIONS, faults
from tests.deploy.manifests import Manifests, content
from tests.deploy.readme_runner import TOP, Walk


@pytest.fixture
def walk(tmp_path: Path) -> Walk:
    """The steps up to the creation of the secrets."""
    walk = Walk(tmp_path)
    walk.secrets_made()
    return walk


def test_it_has_no_other_commands(walk: Walk) -> None:
    sections = {TOP, "Secrets", "Start", "Upgrade", "Scale", "Rotate", "Client certificates"}
    assert set(walk.sections) == sections


def test_the_secrets_are_those_that_are_mounted(walk: Walk) -> None:
    found = {name: set(content(one)) for name, one in walk.secrets().items()}
    (key,) = found.pop("signing-keys")
    assert key.endswith(".pem")
    assert found == {
        "gateway": {"ADMIN_TOKEN", "CA_PEM"},
        "kafka": {"username", "password", "ca.crt"},
        "metrics-token": {"METRICS_TOKEN", "scraper"},
    }
    assert faults(walk.secrets().values(), VERSIONS[0]) == []
    (namespace,) = {one["metadata"]["namespace"] for one in walk.secrets().values()}
    assert (walk.cluster / f"Namespace-{namespace}").exists()
    secrets = walk.checkout / "secrets"
    assert all(not file.stat().st_mode & 0o007 for file in secrets.rglob("*"))


def test_the_ca_for_ingress_controllers_has_no_key(walk: Walk) -> None:
    walk.through("Client certificates")
    found = content(walk.secrets()["ca"])
    assert set(found) == {"ca.crt", "tls.crt"}
    key_and_certificate = content(walk.secrets()["gateway"])["CA_PEM"]
    for value in found.values():
        assert b"PRIVATE KEY" not in value
        assert value in key_and_certificate


def test_start_upgrade_and_scale(walk: Walk) -> None:
    walk.through("Start")
    everything_is_applied(walk.log())
    namespaces_have_the_labels_that_policies_look_for(walk.log())
    before = len(walk.log())
    walk.through("Upgrade")
    upgrades_go_from_readers_to_writers(walk.log()[before:])
    before = len(walk.log())
    walk.through("Scale")
    log = walk.log()[before:]
    assert log.index("deleted StatefulSet-exporter") < log.index("applied StatefulSet-exporter")


def everything_is_applied(log: list[str]) -> None:
    applied = {line.removeprefix("applied ") for line in log if line.startswith("applied")}
    objects = Manifests.of("production").objects
    assert {f"{one['kind']}-{one['metadata']['name']}" for one in objects} <= applied


def namespaces_have_the_labels_that_policies_look_for(log: list[str]) -> None:
    labels = [line.split()[2] for line in log if line.startswith("labelled")]
    wanted = [
        f"{key}={value}"
        for policy in Manifests.of("production").every("NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for source in rule["from"]
        for key, value in source["namespaceSelector"]["matchLabels"].items()
    ]
    assert sorted(labels) == sorted(wanted)


def upgrades_go_from_readers_to_writers(log: list[str]) -> None:
    workloads = ("StatefulSet-exporter", "StatefulSet-processor", "Deployment-gateway")
    first = [log.index(f"applied {name}") for name in workloads]
    waited = [log.index(f"status {name}") for name in workloads]
    settings = next(n for n, line in enumerate(log) if line.startswith("applied ConfigMap"))
    assert settings < first[0] < waited[0] < first[1] < waited[1] < first[2] < waited[2]


def test_secrets_rotate_without_a_moment_in_which_no_token_fits(walk: Walk) -> None:
    walk.through("Start")
    (first,) = (walk.checkout / "secrets/signing-keys").iterdir()
    first.rename(first.with_name("2026-01-01T00.00.00Z.pem"))  # it was made just now
    old = walk.secrets()
    seen = []
    for step in range(3):
        before = walk.token("metrics-token", "scraper")
        walk.rotated(step)
        accepted = set(split_tokens(walk.token("metrics-token", "METRICS_TOKEN")))
        assert {before, walk.token("metrics-token", "scraper")} <= accepted
        seen.append(len(accepted))
    assert seen == [2, 2, 1]
    lines = walk.sections["Rotate"]
    walk.through("Rotate", next(n for n, line in enumerate(lines) if "new/signing-keys" in line))
    now = walk.secrets()
    keys = sorted(content(now["signing-keys"]))
    assert (len(keys), keys[0]) == (2, "2026-01-01T00.00.00Z.pem")
    assert content(now["gateway"])["CA_PEM"] != content(old["gateway"])["CA_PEM"]
    assert content(now["gateway"])["ADMIN_TOKEN"] == content(old["gateway"])["ADMIN_TOKEN"]
    assert walk.log()[-1] == "restart Deployment-gateway"
    assert not (walk.checkout / "new").exists()
