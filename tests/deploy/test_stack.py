"""What docker-compose would start, started: from submission to Prometheus."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.compose import ROOT, Service, kafka_properties
from tests.deploy.conftest import TOKENS
from tests.deploy.image import install_as_image
from tests.deploy.stack import POLL, Stack
from tests.e2e.prometheus import Programs
from tobogganing.local.install import Install
from tobogganing.local.ports import free_ports

SERVICES = ("gateway", "processor", "exporter")
GRACE = 15
"""Seconds that the file gives a container to stop."""


@pytest.fixture
def stack(services: dict[str, Service], tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(services, install_as_image(ROOT, tmp_path / "image"), folder)
    yield stack
    stack.kill()


async def test_everything_that_the_file_starts_works_together(
    stack: Stack, kafka_install: Install, prometheus_programs: Programs
) -> None:
    stack.start_kafka(kafka_install)
    await stack.healthy("kafka")
    stack.run("secrets")
    for name in SERVICES:
        stack.start(name)
    for name in SERVICES:
        await stack.healthy(name)
    await a_submission_is_seen(stack)
    await prometheus_scrapes_all_of_it(stack, prometheus_programs)
    for name in SERVICES:
        code, seconds = await stack.stop(name)
        assert (code, seconds < GRACE) == (0, True), stack.log(name)[-4000:]


async def test_kafka_knows_every_property_that_the_file_sets(
    stack: Stack, kafka_install: Install
) -> None:
    stack.start_kafka(kafka_install)
    await stack.kafka_ready()
    log = (stack.folder / "kafka" / "server.log").read_text(encoding="utf-8")
    known = set(re.findall(r"^\t([a-z.]+) = ", log, re.MULTILINE))
    assert known
    assert set(kafka_properties(stack.services["kafka"].environment)) <= known


async def a_submission_is_seen(stack: Stack) -> None:
    gateway, exporter = (f"http://127.0.0.1:{stack.ports[name]}" for name in SERVICES[::2])
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        registered = await http.post(
            f"{gateway}/api/v1/clients/register",
            json={"name": "Lab router", "type": "docker", "client_id": "c1"},
            headers={"authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"},
        )
        assert registered.status_code == 200, registered.text
        submitted = await http.post(
            f"{gateway}/api/v1/clients/c1/metrics",
            json={"metrics": {"bytes_sent": 42}},
            headers={"authorization": f"Bearer {registered.json()['api_key']}"},
        )
        assert submitted.status_code == 200, submitted.text
        scrape = await http.get(
            f"{exporter}/metrics",
            params={"after": submitted.json()["receipt"]},
            headers={"authorization": f"Bearer {TOKENS['METRICS_TOKEN']}"},
        )
    assert scrape.status_code == 200, scrape.text
    labels = 'client_id="c1",headless="false",name="Lab router",type="docker"'
    assert f"tobogganing_client_bytes_sent{{{labels}}} 42" in scrape.text
    ledgers = [n for n in range(20) if f'read_total{{partition="{n}"}}' in scrape.text]
    assert ledgers == list(range(12))


async def prometheus_scrapes_all_of_it(stack: Stack, programs: Programs) -> None:
    """Start Prometheus with the file's arguments, on a configuration that differs in addresses."""
    service = stack.services["prometheus"]
    port = free_ports(1)[0]
    configure_prometheus(stack, service)
    arguments = [stack.here(service, argument) for argument in service.command]
    address = f"--web.listen-address=127.0.0.1:{port}"
    stack.start_program("prometheus", [str(programs.prometheus), *arguments, address])
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10, trust_env=False
    ) as http:
        await until_all_up(stack, http)
        rules = (await http.get("/rules")).json()["data"]["groups"][0]["rules"]
        assert [rule["name"] for rule in rules] == [
            "ClientOffline",
            "HeadendHighCPU",
            "HeadendDown",
        ]
        query = {"query": "tobogganing_client_bytes_sent"}
        (sample,) = (await http.get("/query", params=query)).json()["data"]["result"]
    assert sample["value"][1] == "42"
    assert sample["metric"]["job"] == "tobogganing-manager"


def configure_prometheus(stack: Stack, service: Service) -> None:
    """Put the addresses of this machine into the clone's configuration."""
    (mount,) = (mount for mount in service.mounts if mount.target == "/etc/prometheus")
    folder = Path(mount.source)
    assert folder != ROOT / "deploy" / "prometheus"
    file = folder / "prometheus.yml"
    text = file.read_text(encoding="utf-8")
    token = "/run/tobogganing/metrics-token"
    assert token in text
    text = text.replace(token, stack.here(service, token)).replace(" 15s", " 500ms")
    for name, port in stack.ports.items():
        there = f"{name}:{stack.services[name].environment['PORT']}"
        assert f'"{there}"' in text, f"{there} is not scraped"
        text = text.replace(there, f"127.0.0.1:{port}")
    file.write_text(text, encoding="utf-8")
    shutil.rmtree(stack.volume("prometheus"))


async def until_all_up(stack: Stack, http: httpx.AsyncClient) -> None:
    targets: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(60):
            while not targets or any(target["health"] != "up" for target in targets):
                await asyncio.sleep(POLL)
                try:
                    targets = (await http.get("/targets")).json()["data"]["activeTargets"]
                except (httpx.TransportError, ValueError):
                    continue  # it still starts
    except TimeoutError:
        raise AssertionError(f"{targets}\n{stack.log('prometheus')[-3000:]}") from None
    assert len(targets) == 4
