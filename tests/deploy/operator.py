"""The Prometheus configuration that the operator generates from ServiceMonitors and
PrometheusRules."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.deploy.kubectl import Object
from tests.deploy.manifests import Manifests, content
from tests.deploy.pods import Pod

META = "__meta_kubernetes"
DEFAULTS = (
    ("namespace", "namespace"),
    ("service_name", "service"),
    ("pod_name", "pod"),
    ("pod_container_name", "container"),
    ("service_name", "job"),
    ("endpoint_port_name", "endpoint"),
)
"""Labels that the operator adds to each target, from Kubernetes' metadata."""
INTERVAL = "500ms"
"""Instead of 15 s."""


def configuration(
    manifests: Manifests, pods: Sequence[Pod], secrets: Mapping[str, Object], folder: Path
) -> str:
    """Prometheus's configuration with only these pods; rules are written to `folder`."""
    jobs = [
        job(manifests, monitor, endpoint, f"{monitor['metadata']['name']}/{number}", pods, secrets)
        for monitor in manifests.every("ServiceMonitor")
        for number, endpoint in enumerate(monitor["spec"]["endpoints"])
    ]
    for rule in manifests.every("PrometheusRule"):
        file = folder / f"{rule['metadata']['name']}.rules"
        file.write_text(json.dumps(rule["spec"]), encoding="utf-8")
    return json.dumps({"rule_files": [f"{folder}/*.rules"], "scrape_configs": jobs})


def job(
    manifests: Manifests,
    monitor: Object,
    endpoint: Object,
    name: str,
    pods: Sequence[Pod],
    secrets: Mapping[str, Object],
) -> Object:
    """One scrape configuration."""
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = (
        one for one in manifests.every("Service") if wanted <= one["metadata"]["labels"].items()
    )
    (port,) = service["spec"]["ports"]
    assert port["name"] == endpoint["port"]
    chosen = manifests.selected(service["spec"]["selector"])
    token = endpoint["authorization"]["credentials"]
    return {
        "job_name": name,
        "scrape_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
        "metrics_path": endpoint.get("path", "/metrics"),
        "authorization": {"credentials": content(secrets[token["name"]])[token["key"]].decode()},
        "relabel_configs": [
            *({"source_labels": [f"{META}_{a}"], "target_label": b} for a, b in DEFAULTS),
            *(in_prometheus_words(one) for one in endpoint["relabelings"]),
        ],
        "static_configs": [
            {
                "targets": [f"127.0.0.1:{pod.port}"],
                "labels": {
                    f"{META}_namespace": service["metadata"]["namespace"],
                    f"{META}_service_name": service["metadata"]["name"],
                    f"{META}_pod_name": pod.name,
                    f"{META}_pod_container_name": pod.workload["metadata"]["name"],
                    f"{META}_endpoint_port_name": port["name"],
                },
            }
            for pod in pods
            if pod.workload["metadata"]["name"] in chosen
        ],
    }


def in_prometheus_words(relabeling: Mapping[str, Any]) -> Object:
    return {
        re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value
        for key, value in relabeling.items()
    }
