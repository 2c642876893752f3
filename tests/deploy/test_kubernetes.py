"""deploy/kubernetes: it builds, is valid, closed, and fits together."""

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.topics import declare_topics
from processor.settings import ProcessorSettings
from service.rotating import RotatingTokens
from tests.deploy.compose import ROOT, Service
from tests.deploy.custom_resources import KEDA, add_schemas, fetched
from tests.deploy.exercised import assert_all_exercised
from tests.deploy.image import instructions
from tests.deploy.kubectl import VERSIONS, Object, faults, load_yaml
from tests.deploy.manifests import (
    COMPONENT,
    KUBERNETES,
    OVERLAYS,
    Manifests,
    container,
    mounts,
    port,
    template,
)

BOTH = "test_kubernetes.py, test_kubernetes_pods.py"
EXERCISED = {
    "README.md": "test_kubernetes_readme.py",
    "base/*": BOTH,
    "components/*/*": BOTH,
    "overlays/*/*": BOTH,
}
NOT_BUILT = {"README.md", "components/monitoring/rules.sh"}
OURS = {"gateway", "processor", "exporter"}
CLUSTER_WIDE = {"Namespace"}


@pytest.fixture(scope="module", autouse=True)
def _schemas() -> None:
    add_schemas()


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.of(request.param)


@pytest.fixture(scope="module")
def production() -> Manifests:
    return Manifests.of("production")


def test_every_file_is_exercised() -> None:
    assert_all_exercised(KUBERNETES, EXERCISED)


def test_every_file_is_part_of_an_overlay() -> None:
    assert NOT_BUILT | {
        str(file.relative_to(KUBERNETES))
        for overlay in OVERLAYS
        for file in parts(KUBERNETES / "overlays" / overlay)
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
    assert {"metrics-token", "gateway", "signing-keys", "kafka", "tls"} == set(
        re.findall(r"^\| `([a-z-]+)` \| ", text.partition("| Secret |")[2], re.MULTILINE)
    )


def test_the_image_is_that_of_docker_compose(
    manifests: Manifests, services: dict[str, Service]
) -> None:
    assert last("ENTRYPOINT") == '["tobogganing"]'
    for workload in manifests.workloads():
        service = services[workload["metadata"]["name"]]
        name, _, tag = container(workload)["image"].rpartition(":")
        assert name.rpartition("/")[2] + f":{tag}" == service.config["image"]
        assert container(workload)["args"] == service.command
        assert "command" not in container(workload)
        assert port(workload, "http") == int(service.environment["PORT"])


def last(name: str) -> str:
    return [line.text for line in instructions(ROOT / "Dockerfile") if line.name == name][-1]


def test_what_selects_pods_finds_those_of_its_name(manifests: Manifests) -> None:
    for one in manifests.every("Service"):
        assert manifests.selected(one["spec"]["selector"]) == [one["metadata"]["name"]]
        assert [p["targetPort"] for p in one["spec"]["ports"]] == ["http"]
        assert one["spec"]["ports"][0]["port"] == port(
            manifests.workload(one["metadata"]["name"]), "http"
        )
    for one in [*manifests.workloads(), *manifests.every("PodDisruptionBudget")]:
        labels = one["spec"]["selector"]["matchLabels"]
        assert manifests.selected(labels) == [one["metadata"]["name"]]
    for workload in manifests.workloads():
        for spread in template(workload)["spec"]["topologySpreadConstraints"]:
            labels = spread["labelSelector"]["matchLabels"]
            assert manifests.selected(labels) == [workload["metadata"]["name"]]
    for one in manifests.every("StatefulSet"):
        assert manifests.one("Service", one["spec"]["serviceName"])
    assert {one["metadata"]["name"] for one in manifests.every("PodDisruptionBudget")} == OURS


def test_nodes_can_be_emptied_one_pod_after_the_other(manifests: Manifests) -> None:
    for one in manifests.every("PodDisruptionBudget"):
        assert one["spec"]["maxUnavailable"] == 1
        assert one["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_memory_is_bounded_and_cpu_is_not(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        resources = container(workload)["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_every_reference_has_its_object(production: Manifests) -> None:
    for path in production.one("Ingress", "tobogganing")["spec"]["rules"][0]["http"]["paths"]:
        service = production.one("Service", path["backend"]["service"]["name"])
        assert path["backend"]["service"]["port"]["name"] == service["spec"]["ports"][0]["name"]
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        (one,) = production.every(kind)
        target = one["spec"]["scaleTargetRef"]
        workload = production.one(target["kind"], target["name"])
        assert target["apiVersion"] == workload["apiVersion"]
        # What autoscalers have done is not undone by applying again.
        assert "replicas" not in workload["spec"]
        assert container(workload)["resources"]["requests"]["cpu"] == "1"


def test_keda_asks_for_what_the_processors_read(production: Manifests) -> None:
    settings = ProcessorSettings(
        kafka_bootstrap_servers="a:1", metrics_token=RotatingTokens("token")
    )
    (scaled,) = production.every("ScaledObject")
    (lag,) = (one["metadata"] for one in scaled["spec"]["triggers"] if one["type"] == "kafka")
    environ = production.environ(production.workload("processor"), 0, {"kafka": KAFKA})
    assert "KAFKA_TOPIC_PREFIX" not in environ
    assert lag["consumerGroup"] == settings.group
    assert lag["topic"] == declare_topics(settings.kafka_topic_prefix, 1).submissions.name
    assert lag["bootstrapServersFromEnv"] in environ
    spec = scaled["spec"]
    assert spec["minReplicaCount"] < spec["maxReplicaCount"] == int(environ["KAFKA_PARTITIONS"])


KAFKA: Object = {"data": {"username": "", "password": "", "ca.crt": ""}}


def test_keda_knows_every_word_that_the_trigger_says(production: Manifests) -> None:
    """KEDA takes any, and passes over those that it does not know."""
    source = (fetched(KEDA) / "pkg/scalers/kafka_scaler.go").read_text(encoding="utf-8")
    known: set[str] = set()
    secrets: set[str] = set()
    for name, options in re.findall(r'`keda:"name=(\w+),order=([^"]+)"`', source):
        known |= {name} if "triggerMetadata" in options else set()
        known |= {f"{name}FromEnv"} if "resolvedEnv" in options else set()
        secrets |= {name} if "authParams" in options else set()
    (scaled,) = production.every("ScaledObject")
    lag, cpu = scaled["spec"]["triggers"]
    assert set(lag["metadata"]) <= known
    assert (cpu["type"], cpu["metricType"], set(cpu["metadata"])) == ("cpu", "Utilization", {"value"})
    (given,) = production.every("TriggerAuthentication")
    assert lag["authenticationRef"] == {"name": given["metadata"]["name"]}
    assert {one["parameter"] for one in given["spec"]["secretTargetRef"]} <= secrets
    environ = production.environ(production.workload("processor"), 0, {"kafka": KAFKA})
    assert environ["KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
    assert (lag["metadata"]["sasl"], lag["metadata"]["tls"]) == ("scram_sha512", "enable")


def test_who_may_reach_what(production: Manifests) -> None:
    nobody = production.one("NetworkPolicy", "nobody")["spec"]
    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, labels in (
        ("ingress-controllers", {"tobogganing-enters": "true"}),
        ("scrapers", {"tobogganing-scrapes": "true"}),
    ):
        (rule,) = production.one("NetworkPolicy", name)["spec"]["ingress"]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": labels}}]
        assert rule["ports"] == [{"port": "http"}]
    (chosen,) = production.one("NetworkPolicy", "ingress-controllers")["spec"]["podSelector"][
        "matchExpressions"
    ]
    assert chosen == {"key": COMPONENT, "operator": "In", "values": ["gateway", "exporter"]}


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
