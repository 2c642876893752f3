"""The parts of deploy/kubernetes fit each other, and KEDA's triggers fit the processors."""

import re

from contract.topics import declare_topics
from processor.settings import ProcessorSettings
from service.config.secrets import ReloadableTokens
from tests.deploy.compose import ROOT
from tests.deploy.custom_resources import KEDA, fetched
from tests.deploy.kubectl import Object, load_yaml
from tests.deploy.manifests import COMPONENT, Manifests, container, port, template

OURS = {"gateway", "processor", "exporter"}
SECRETS: dict[str, Object] = {"kafka": {"data": {"username": "", "password": "", "ca.crt": ""}}}


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


def test_every_reference_has_its_object(production: Manifests) -> None:
    for path in production.one("Ingress", "tobogganing")["spec"]["rules"][0]["http"]["paths"]:
        service = production.one("Service", path["backend"]["service"]["name"])
        assert path["backend"]["service"]["port"]["name"] == service["spec"]["ports"][0]["name"]
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        (one,) = production.every(kind)
        target = one["spec"]["scaleTargetRef"]
        workload = production.one(target["kind"], target["name"])
        assert target["apiVersion"] == workload["apiVersion"]
        # Applying the manifests again does not reset what autoscalers have set.
        assert "replicas" not in workload["spec"]
        assert container(workload)["resources"]["requests"]["cpu"] == "1"


def test_keda_asks_for_what_the_processors_read(production: Manifests) -> None:
    settings = ProcessorSettings(
        kafka_bootstrap_servers="a:1", metrics_token=ReloadableTokens("token")
    )
    (scaled,) = production.every("ScaledObject")
    (lag,) = (one["metadata"] for one in scaled["spec"]["triggers"] if one["type"] == "kafka")
    environ = production.environ(production.workload("processor"), 0, SECRETS)
    assert "KAFKA_TOPIC_PREFIX" not in environ
    assert lag["consumerGroup"] == settings.group
    assert lag["topic"] == declare_topics(settings.kafka_topic_prefix, 1).submissions.name
    assert lag["bootstrapServersFromEnv"] in environ
    spec = scaled["spec"]
    assert spec["minReplicaCount"] < spec["maxReplicaCount"] == int(environ["KAFKA_PARTITIONS"])


def test_keda_knows_every_word_that_the_trigger_says(production: Manifests) -> None:
    """KEDA accepts any metadata, and ignores unknown fields."""
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
    assert (cpu["type"], cpu["metricType"]) == ("cpu", "Utilization")
    assert set(cpu["metadata"]) == {"value"}
    (given,) = production.every("TriggerAuthentication")
    assert lag["authenticationRef"] == {"name": given["metadata"]["name"]}
    assert {one["parameter"] for one in given["spec"]["secretTargetRef"]} <= secrets
    environ = production.environ(production.workload("processor"), 0, SECRETS)
    assert environ["KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
    assert (lag["metadata"]["sasl"], lag["metadata"]["tls"]) == ("scram_sha512", "enable")


def test_prometheus_scrapes_what_that_of_docker_compose_scrapes(production: Manifests) -> None:
    """The job names are the same, because alerts and dashboards select by them."""
    (config,) = load_yaml((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    wanted = {
        (job["job_name"], job.get("metrics_path", "/metrics"))
        for job in config["scrape_configs"]
        if job["job_name"].startswith("tobogganing-")
    }
    found = {
        (rule["replacement"], endpoint.get("path", "/metrics"))
        for monitor in production.every("ServiceMonitor")
        for endpoint in monitor["spec"]["endpoints"]
        for rule in endpoint["relabelings"]
        if rule.get("targetLabel") == "job"
    }
    assert found == wanted
    assert ("tobogganing-exporter", "/-/metrics") in found


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
