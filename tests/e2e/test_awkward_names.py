"""A fleet with every awkward name that is allowed, read by all readers of /metrics.

prometheus-client, Datadog's own agent check, promtool and a real Prometheus: each sees every series
with the name as it was registered or submitted.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from contract.entity import entity_key, partition_of
from contract.frame import Submission
from contract.kinds import CLIENT, HEADEND
from service.config.settings import KafkaSettings
from tests.awkward import ALLOWED, LINE_SEPARATORS, REFUSED
from tests.e2e.prometheus import Programs, lint, running_prometheus
from tests.e2e.test_prometheus import GUIDE_CONFIG, GUIDE_LINTS, post, programs
from tests.integration.frames import frame_writer
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, Service
from tobogganing.devstack.run_config import CHECKOUT

__all__ = ["programs"]

CLIENT_FAMILY = CLIENT.last_check_in.name
HEADEND_FAMILY = HEADEND.last_check_in.name


async def register(manager: Service, kind: str, **body: str) -> str:
    path = f"/api/v1/{kind}s/register"
    return (await post(manager, path, ADMIN_TOKEN, body)).get("api_key", "")


async def report(manager: Service, kind: str, id: str, key: str, **body: object) -> str:
    """Submit once; return the receipt."""
    if kind == "headend":
        login = {"node_id": id, "node_type": kind, "api_key": key}
        key = (await post(manager, "/api/v1/auth/token", "", login))["access_token"]
    answer = await post(manager, f"/api/v1/{kind}s/{id}/metrics", key, {"metrics": {}} | body)
    return answer["receipt"]


@pytest.fixture
async def fleet(manager: Service) -> tuple[Service, dict[str, str]]:
    """A manager of a fleet with each awkward name in every place of a name; names by their ids."""
    names: dict[str, str] = {}
    receipts: list[str] = []
    for number, name in enumerate(ALLOWED):
        client, headend, cluster = f"client-{number}", f"headend-{number}", f"cluster-{number}"
        key = await register(manager, "client", client_id=client, name=name, type="native")
        receipts.append(await report(manager, "client", client, key))
        labels = {"name": name, "region": name, "datacenter": name}
        await register(manager, "cluster", cluster_id=cluster, **labels)
        key = await register(
            manager, "headend", headend_id=headend, cluster_id=cluster, name="as registered"
        )
        receipts.append(await report(manager, "headend", headend, key, headend_name=name))
        names |= {client: name, headend: name}
    assert (await manager.scrape(*receipts)).status_code == 200
    return manager, names


def names_of(families: Iterable[Any]) -> dict[str, str]:
    """Names by ids, of a scrape as prometheus-client reads it."""
    found: dict[str, str] = {}
    for family in families:
        for sample in family.samples if family.name in (CLIENT_FAMILY, HEADEND_FAMILY) else ():
            labels = sample.labels
            found[labels.get("client_id") or labels["headend_id"]] = labels["name"]
            if "region" in labels:
                assert labels["region"] == labels["datacenter"] == labels["name"]
    return found


async def datadog(manager: Service) -> dict[str, str]:
    """Names by ids, as Datadog's check submits them."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.datadog", f"{manager.url}/metrics", METRICS_TOKEN),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()
    found: dict[str, str] = {}
    for name, _, tags in json.loads(output):
        if name in (CLIENT_FAMILY, HEADEND_FAMILY):
            labels = dict(tag.split(":", 1) for tag in tags)
            found[labels.get("client_id") or labels["headend_id"]] = labels["name"]
    return found


async def prometheus(manager: Service, programs: Programs, folder: Path) -> dict[str, str]:
    """Names by ids, as a Prometheus has them that scrapes the manager."""
    config = GUIDE_CONFIG.format(token=METRICS_TOKEN, port=manager.port)
    found: dict[str, str] = {}
    async with running_prometheus(programs, config, folder) as running:
        for family, label in ((CLIENT_FAMILY, "client_id"), (HEADEND_FAMILY, "headend_id")):
            for series in await running.series(family):
                found[series["metric"][label]] = series["metric"]["name"]
        (up,) = await running.series("up")
        assert up["value"][1] == "1"
    return found


async def test_every_reader_sees_every_awkward_name(
    fleet: tuple[Service, dict[str, str]], programs: Programs, tmp_path: Path
) -> None:
    manager, names = fleet
    scrape = await manager.scrape()
    assert scrape.text.splitlines() == scrape.text.removesuffix("\n").split("\n")
    assert names_of(parse_text(scrape.text)) == names
    assert lint(programs, scrape.content) == GUIDE_LINTS
    openmetrics = await manager.scrape(accept="application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(openmetrics.text)  # type: ignore[no-untyped-call]
    assert names_of(families) == names
    assert await datadog(manager) == names
    assert await prometheus(manager, programs, tmp_path) == names


async def test_characters_that_break_readers_are_refused_wherever_a_name_may_be(
    manager: Service,
) -> None:
    cluster = {"cluster_id": "c", "name": "c", "region": "r", "datacenter": "d"}
    await register(manager, "cluster", **cluster)
    key = await register(manager, "headend", headend_id="h", cluster_id="c", name="h")
    login = {"node_id": "h", "node_type": "headend", "api_key": key}
    token = (await post(manager, "/api/v1/auth/token", "", login))["access_token"]
    relay = await register(manager, "relay", name="r", scope="all")
    for character in REFUSED:
        bad = f"a{character}b"
        for path, credential, body, field in (
            ("clients/register", ADMIN_TOKEN, {"name": bad, "type": "native"}, "name"),
            ("clusters/register", ADMIN_TOKEN, cluster | {"name": bad}, "name"),
            ("clusters/register", ADMIN_TOKEN, cluster | {"region": bad}, "region"),
            ("clusters/register", ADMIN_TOKEN, cluster | {"datacenter": bad}, "datacenter"),
            ("clusters/register", ADMIN_TOKEN, cluster | {"headend_url": bad}, "headend_url"),
            ("headends/register", ADMIN_TOKEN, {"cluster_id": "c", "name": bad}, "name"),
            ("relays/register", ADMIN_TOKEN, {"scope": "all", "name": bad}, "name"),
            ("headends/h/metrics", token, {"metrics": {}, "headend_name": bad}, "headend_name"),
        ):
            answer = await manager.http.post(
                f"/api/v1/{path}", json=body, headers={"authorization": f"Bearer {credential}"}
            )
            assert answer.status_code == 400, (path, character)
            assert answer.json()["field"] == field
            assert f"U+{ord(character):04X}: remove it" in answer.json()["error"]
        item = {"kind": "headend", "id": "h", "metrics": {}, "headend_name": bad}
        batch = await manager.http.post(
            "/api/v1/metrics", json=[item], headers={"authorization": f"Bearer {relay}"}
        )
        (rejected,) = batch.json()["rejected"]
        assert "remove it" in rejected["error"]


async def test_names_that_are_there_already_are_replaced_where_they_are_shown(
    manager: Service, kafka_settings: KafkaSettings
) -> None:
    """A gateway of an earlier version has accepted them, so they are in the submissions topic."""
    receipts = []
    async with frame_writer(kafka_settings) as frames:
        for number, character in enumerate(LINE_SEPARATORS):
            id, labels = f"c-{number}", {"name": f"a{character}b", "type": "native"}
            partition = partition_of(entity_key("client", id), kafka_settings.kafka_partitions)
            offset = await frames.frame(partition, Submission("client", id, 0, labels))
            receipts.append(f"{partition}-{offset}-0")
    scrape = await manager.scrape(*receipts)
    expected = {f"c-{number}": "a\ufffdb" for number in range(len(LINE_SEPARATORS))}
    assert names_of(parse_text(scrape.text)) == expected
    assert await datadog(manager) == expected
