"""deploy/kubernetes builds, is valid, and exposes only what it should."""

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.compose import ROOT, ComposeService
from tests.deploy.coverage_check import assert_all_exercised
from tests.deploy.custom_resources import add_schemas
from tests.deploy.image import instructions
from tests.deploy.kubectl import VERSIONS, faults, load_yaml
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    Manifests,
    container,
    mounts,
    port,
    template,
)
from tests.ingress.running import CONTROLLERS, production_with

BUILT = "test_kubernetes.py, test_kubernetes_parts.py, test_kubernetes_pods.py"
EXERCISED = {
    "README.md": "test_kubernetes_readme.py",
    "base/*": BUILT,
    "components/*/*": BUILT,
    "overlays/*/*": BUILT,
}
NOT_BUILT = {"README.md", "components/monitoring/rules.sh"}
INSTEAD = ("ingress-nginx", "client-certificates")
"""Components that no overlay has: tests/ingress builds overlays with them."""
OURS = {"gateway", "processor", "exporter"}
CLUSTER_WIDE = {"Namespace"}


@pytest.fixture(scope="module", autouse=True)
def _schemas() -> None:
    add_schemas()


def test_every_file_is_exercised() -> None:
    assert_all_exercised(KUBERNETES, EXERCISED)


def test_every_file_is_part_of_an_overlay() -> None:
    folders = [KUBERNETES / "overlays" / name for name in OVERLAYS]
    folders += [KUBERNETES / "components" / name for name in INSTEAD]
    for_controllers = KUBERNETES.glob("components/*/controller-*.yaml")
    assert NOT_BUILT | {
        str(file.relative_to(KUBERNETES))
        for file in [*for_controllers, *(part for each in folders for part in parts(each))]
    } == {str(file.relative_to(KUBERNETES)) for file in KUBERNETES.rglob("*") if file.is_file()}


def parts(folder: Path) -> set[Path]:
    """The files that a kustomization is made of."""
    (one,) = load_yaml((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    names = [*one.get("resources", []), *one.get("components", [])]
    names += [patch["path"] for patch in one.get("patches", []) if "path" in patch]
    names += [file for made in one.get("configMapGenerator", []) for file in made.get("envs", [])]
    found = {folder / "kustomization.yaml"}
    for name in names:
        path = (folder / name).resolve()
        found |= parts(path) if path.is_dir() else {path}
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(manifests: Manifests, version: str) -> None:
    assert faults(manifests.objects, version) == []


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("Deployment", lambda spec: spec["template"]["spec"]["containers"][0].update(probe={})),
        ("HorizontalPodAutoscaler", lambda spec: spec.pop("maxReplicas")),
        ("NetworkPolicy", lambda spec: spec.update(ingress="all")),
        ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].update(expression="1")),
        ("ScaledObject", lambda spec: spec["triggers"][0].pop("type")),
        ("ScaledObject", lambda spec: spec.update(minReplicas=1)),
        ("ServiceMonitor", lambda spec: spec["endpoints"][0].update(bearerToken="1")),
        ("TriggerAuthentication", lambda spec: spec["secretTargetRef"][0].pop("name")),
    ],
)
def test_what_is_not_valid_is_found(
    production: Manifests, kind: str, spoil: Callable[[Any], object]
) -> None:
    one = copy.deepcopy(production.every(kind)[0])
    spoil(one["spec"])
    (fault,) = faults([one], VERSIONS[-1])
    assert fault.startswith("ERROR")


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("more", [(), ("client-certificates",)])
def test_overlays_with_another_ingress_are_valid(
    tmp_path: Path, controller: str, more: tuple[str, ...]
) -> None:
    manifests = production_with(controller, tmp_path, *more)
    for version in VERSIONS:
        assert faults(manifests.objects, version) == []
    (ingress,) = manifests.every("Ingress")
    assert ingress["spec"]["ingressClassName"] == controller.removeprefix("ingress-")
    settings = [one["data"] for one in manifests.every("ConfigMap") if "MTLS" in one["data"]]
    assert [each["MTLS"] for each in settings] == ["on"] * len(more)


def test_everything_is_in_the_namespace_which_demands_restricted_pods(
    manifests: Manifests,
) -> None:
    (namespace,) = manifests.every("Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for one in manifests.objects:
        assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "tobogganing-metrics"
        if one["kind"] not in CLUSTER_WIDE:
            assert one["metadata"]["namespace"] == namespace["metadata"]["name"]


def test_every_pod_is_restricted(manifests: Manifests) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, and more."""
    assert {one["metadata"]["name"] for one in manifests.workloads()} == OURS
    assert not manifests.every("Pod", "Job", "CronJob", "DaemonSet")
    (uid, gid) = (int(n) for n in last("USER").split(":"))
    for workload in manifests.workloads():
        pod = template(workload)["spec"]
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "fsGroup": gid,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container(workload)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        assert all("hostPort" not in one for one in container(workload)["ports"])


def test_mounted_secrets_are_read_by_the_image_s_group_only(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        assert {source["defaultMode"] for _, source in mounts(workload)} == {0o440}


def test_no_secret_is_in_it_and_only_who_needs_one_has_it(manifests: Manifests) -> None:
    assert not manifests.every("Secret")
    holders: dict[str, set[str]] = {}
    for workload in manifests.workloads():
        for _, source in mounts(workload):
            holders.setdefault(source["secretName"], set()).add(workload["metadata"]["name"])
    assert holders.pop("metrics-token") == OURS
    assert holders.pop("gateway") == holders.pop("signing-keys") == {"gateway"}
    assert holders in ({}, {"kafka": OURS})
    text = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    assert {"metrics-token", "gateway", "signing-keys", "kafka", "tls", "ca"} == set(
        re.findall(r"^\| `([a-z-]+)` \| ", text.partition("| Secret |")[2], re.MULTILINE)
    )


def test_the_image_is_that_of_docker_compose(
    manifests: Manifests, services: dict[str, ComposeService]
) -> None:
    assert last("ENTRYPOINT") == '["tobogganing"]'
    for workload in manifests.workloads():
        service = services[workload["metadata"]["name"]]
        name, _, tag = container(workload)["image"].rpartition(":")
        assert name.rpartition("/")[2] == "tobogganing-metrics"
        assert f"ARG VERSION={tag}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        assert container(workload)["args"] == service.command
        assert "command" not in container(workload)
        assert port(workload, "http") == int(service.environment["PORT"])


def last(name: str) -> str:
    return [line.text for line in instructions(ROOT / "Dockerfile") if line.name == name][-1]


def test_nodes_can_be_emptied_one_pod_after_the_other(manifests: Manifests) -> None:
    for one in manifests.every("PodDisruptionBudget"):
        assert one["spec"]["maxUnavailable"] == 1
        assert one["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_memory_is_bounded_and_cpu_is_not(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        resources = container(workload)["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_the_rules_are_those_of_deploy_prometheus() -> None:
    folder = KUBERNETES / "components/monitoring"
    made = subprocess.run(
        ["sh", folder / "rules.sh"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    text = (folder / "rules.yaml").read_text(encoding="utf-8")
    assert text == made, "rules.yaml is old: make it again with rules.sh"
    rules = {file.stem: file for file in (ROOT / "deploy/prometheus/rules").iterdir()}
    found = {one["metadata"]["name"]: one["spec"] for one in load_yaml(text)}
    assert set(found) == {f"tobogganing-{name}" for name in rules}
    for name, file in rules.items():
        (rule,) = load_yaml(file.read_text(encoding="utf-8"))
        assert found[f"tobogganing-{name}"] == rule
