"""The pods of deploy/kubernetes as processes: probes, secrets, scrapes, lag, termination."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.settings import ExporterSettings
from processor.settings import ProcessorSettings
from service.config.settings import load_settings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicOffsets
from tests.deploy.kubectl import built
from tests.deploy.manifests import Manifests, ordinals
from tests.deploy.operator import configuration
from tests.deploy.pods import Pod
from tests.deploy.readme_runner import PASSWORD, USER, Walk
from tests.deploy.scram import scram_listener
from tests.e2e.prometheus import Programs, Prometheus, running_prometheus
from tests.integration.test_secured_kafka import certificate
from tests.shared_kafka import SharedKafka
from tobogganing.devstack.install import Install

POLL = 0.1
PATIENCE = 60


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A user who has created the secrets, and runs two exporters."""
    walk = Walk(tmp_path_factory.mktemp("kubernetes"))
    file = walk.production / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    assert "{ name: exporter, count: 1 }" in text
    file.write_text(text.replace("exporter, count: 1", "exporter, count: 2"), encoding="utf-8")
    walk.secrets_made()
    return walk


@pytest.fixture
async def scram(kafka_install: Install, walk: Walk, tmp_path: Path) -> AsyncIterator[str]:
    """A broker that requires TLS and the password of the Secret."""
    store, trusted = certificate(tmp_path)
    walk.trust(trusted)
    async with scram_listener(kafka_install, tmp_path, store, USER, PASSWORD) as address:
        yield address


@contextlib.asynccontextmanager
async def running(pods: Sequence[Pod]) -> AsyncIterator[None]:
    """Start pods and wait for their probes; stop them within their grace period at the end."""
    try:
        for pod in pods:
            await pod.start()
        for pod in pods:
            await pod.ready()
        yield
        for pod in pods:
            await pod.stop()
            assert pod.written() == []
    finally:
        for pod in pods:
            await pod.kill()


async def test_the_small_overlay_runs(
    walk: Walk, kafka: SharedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    manifests = Manifests.of("small")
    here = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": topic_prefix,
    }
    pods = [
        Pod(manifests, workload["metadata"]["name"], ordinal, walk.secrets(), tmp_path, **here)
        for workload in manifests.workloads()
        for ordinal in ordinals(workload)
    ]
    named = {pod.name: pod for pod in pods}
    assert set(named) == {"gateway-0", "processor-0", "exporter-1"}
    async with running(pods):
        await a_submission_is_seen(walk, named["gateway-0"], [named["exporter-1"]])


@pytest.mark.long
async def test_the_production_overlay_runs(
    walk: Walk, scram: str, prometheus_programs: Programs, tmp_path: Path
) -> None:
    manifests = Manifests(built(walk.production))
    here = {"KAFKA_BOOTSTRAP_SERVERS": scram, "KAFKA_REPLICATION": "1"}
    names = [("gateway", 0), ("gateway", 1), ("processor", 0), ("processor", 1)]
    names += [("exporter", ordinal) for ordinal in ordinals(manifests.workload("exporter"))]
    pods = [Pod(manifests, name, n, walk.secrets(), tmp_path, **here) for name, n in names]
    shards = [load_settings(ExporterSettings, pod.environ).shard for pod in pods[4:]]
    assert sorted(p for shard in shards for p in shard.partitions(12)) == list(range(12))
    workers = [load_settings(ProcessorSettings, pod.environ).worker_name for pod in pods[2:4]]
    assert workers == ["processor-0", "processor-1"]
    async with running(pods):
        await a_submission_is_seen(walk, pods[0], pods[4:])
        await keda_sees_no_lag(manifests, pods[2])
        config = configuration(manifests, pods, walk.secrets(), tmp_path)
        async with running_prometheus(prometheus_programs, config, tmp_path) as prometheus:
            await it_is_scraped_as_by_docker_compose(prometheus, pods)
        await tokens_change_without_a_restart(walk, pods)
    for pod in pods:
        assert PASSWORD not in pod.log()


async def a_submission_is_seen(walk: Walk, gateway: Pod, exporters: Sequence[Pod]) -> None:
    """Submit for a client with the secrets' tokens, and scrape it, of one shard and no other."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        registered = await http.post(
            f"{gateway.url}/api/v1/clients/register",
            json={"name": "Lab router", "type": "docker", "client_id": "c1"},
            headers=bearer(walk.token("gateway", "ADMIN_TOKEN")),
        )
        assert registered.status_code == 200, registered.text
        submitted = await http.post(
            f"{gateway.url}/api/v1/clients/c1/metrics",
            json={"metrics": {"bytes_sent": 42}},
            headers=bearer(registered.json()["api_key"]),
        )
        assert submitted.status_code == 200, submitted.text
        answers = [
            await http.get(
                f"{exporter.url}/metrics",
                params={"after": submitted.json()["receipt"]},
                headers=bearer(walk.token("metrics-token", "scraper")),
            )
            for exporter in exporters
        ]
        shown = [one for one in answers if one.status_code == 200]
        assert len(shown) == 1
        assert {one.status_code for one in answers} <= {200, 421}
        assert re.search(r'^tobogganing_client_bytes_sent\{.*"c1".*\} 42', shown[0].text, re.M)


async def keda_sees_no_lag(manifests: Manifests, processor: Pod) -> None:
    """Return the lag as KEDA computes it: the ends of its topic minus the committed offsets of its
    group.
    """
    (scaled,) = manifests.every("ScaledObject")
    lag = scaled["spec"]["triggers"][0]["metadata"]
    settings = load_settings(ProcessorSettings, processor.environ)
    partitions = range(settings.kafka_partitions)
    async with admin_client(settings) as admin:
        async with TopicOffsets(settings, lag["topic"], partitions) as topic:
            ends = await topic.end_offsets()
        assert any(ends.values())
        committed: dict[int, int] = {}
        async with asyncio.timeout(PATIENCE):
            # None may be missing: KEDA would count the whole partition as lag.
            while committed != ends:
                found = await admin.list_consumer_group_offsets(lag["consumerGroup"])
                committed = {
                    at.partition: offset.offset
                    for at, offset in found.items()
                    if at.topic == lag["topic"]
                }
                await asyncio.sleep(POLL)


async def it_is_scraped_as_by_docker_compose(prometheus: Prometheus, pods: Sequence[Pod]) -> None:
    targets: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while not targets or any(one["health"] != "up" for one in targets):
            targets = (await prometheus.ask("/api/v1/targets"))["activeTargets"]
            await asyncio.sleep(POLL)
    expected = {(f"tobogganing-{pod.workload['metadata']['name']}", pod.name) for pod in pods}
    expected |= {
        (f"tobogganing-{job}", pod.name) for job in ("manager", "fleet") for pod in pods[4:]
    }
    labels = [one["labels"] for one in targets]
    assert all(set(one) == {"job", "instance"} for one in labels)
    assert sorted((one["job"], one["instance"]) for one in labels) == sorted(expected)
    (series,) = await prometheus.series("tobogganing_client_bytes_sent")
    assert series["metric"]["job"] == "tobogganing-manager"
    (total,) = await prometheus.series("tobogganing_manager_clients_total")
    assert total["metric"]["instance"] == "exporter-1"
    own = await prometheus.series("tobogganing_exporter_series")  # of /-/metrics
    assert {each["metric"]["instance"] for each in own} == {pod.name for pod in pods[4:]}
    assert {each["metric"]["job"] for each in own} == {"tobogganing-exporter"}
    ledgers = await prometheus.series("tobogganing_pipeline_read_total")
    assert len(ledgers) == 12
    groups = (await prometheus.ask("/api/v1/rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert {"ClientOffline", "PipelineStuck", "ServiceDown"} < {rule["name"] for rule in rules}


async def tokens_change_without_a_restart(walk: Walk, pods: Sequence[Pod]) -> None:
    """Run the README's steps; after each, the kubelet and the operator update, in either order."""
    old = walk.token("metrics-token", "scraper")
    for number in range(3):
        before = walk.token("metrics-token", "scraper")
        walk.rotated(number)
        for pod in pods:
            pod.mount(walk.secrets())
        after = walk.token("metrics-token", "scraper")
        for pod in pods:
            for token in {before, after}:
                await answers(pod, token, 200)
    assert after != old
    for pod in pods:
        await answers(pod, old, 401)


async def answers(pod: Pod, token: str, status: int) -> None:
    """Wait until the pod responds with this status to a scrape with this token."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http, asyncio.timeout(PATIENCE):
        url = f"{pod.url}/metrics"
        while (await http.get(url, headers=bearer(token))).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(POLL)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
