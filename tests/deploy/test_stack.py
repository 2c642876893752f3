"""What docker-compose would start, started: from submission through the edge to the stores."""

import contextlib
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import programs
from tests.deploy.compose import ROOT, ComposeService, DockerCompose, kafka_properties
from tests.deploy.conftest import TOKENS
from tests.deploy.dns import NameServer
from tests.deploy.image import install_as_image
from tests.deploy.monitoring import (
    averages_arrive,
    grafanas_sources_answer,
    prometheus_scrapes_all_of_it,
    until,
)
from tests.deploy.stack import OURS, Stack
from tests.e2e.prometheus import Programs
from tobogganing.devstack import process
from tobogganing.devstack.install import Install

GRACE = 15
"""Seconds that the file gives a container to stop."""


@pytest.fixture
async def stack(services: dict[str, ComposeService], tmp_path: Path) -> AsyncIterator[Stack]:
    async with stack_of(services, tmp_path) as stack:
        yield stack


@pytest.fixture
async def laptop(
    docker_compose: DockerCompose, clone: Path, tmp_path: Path
) -> AsyncIterator[Stack]:
    """What `make env LAPTOP=1` makes of it."""
    files = {"COMPOSE_FILE": "docker-compose.yml:docker-compose.laptop.yml"}
    services = docker_compose.services(clone, **TOKENS, **files)
    async with stack_of(services, tmp_path) as stack:
        yield stack


@contextlib.asynccontextmanager
async def stack_of(services: dict[str, ComposeService], folder: Path) -> AsyncIterator[Stack]:
    (folder / "stack").mkdir()
    async with NameServer() as names:
        site = install_as_image(ROOT, folder / "image")
        stack = Stack(services, site, folder / "stack", names)
        try:
            yield stack
        finally:
            stack.kill()


@pytest.mark.long
async def test_everything_that_the_file_starts_works_together(
    stack: Stack, kafka_install: Install, prometheus_programs: Programs
) -> None:
    for name in stack.brokers:
        stack.start_kafka(name, kafka_install)
    await stack.healthy("kafka-1")
    stack.run("secrets")
    copies = await start_ours(stack)
    assert len(copies) == 6
    assert await names_in_the_group(stack) == {"processor-1", "processor-2"}
    await a_submission_is_seen(stack)
    copies += await more_of_them(stack)
    await prometheus_scrapes_all_of_it(stack, prometheus_programs)
    await averages_arrive(stack)
    await grafanas_sources_answer(stack)
    await submissions_go_on_without_a_broker(stack)
    for copy in copies:
        code, seconds = await stack.stop(copy)
        assert (code, seconds < GRACE) == (0, True), stack.log(copy)[-4000:]


async def test_kafka_knows_every_property_that_the_file_sets(
    stack: Stack, kafka_install: Install
) -> None:
    for name in stack.brokers:
        stack.start_kafka(name, kafka_install)
    await stack.kafka_ready()
    log = (stack.folder / "brokers" / "kafka-1" / "server.log").read_text(encoding="utf-8")
    known = set(re.findall(r"^\t([a-z.]+) = ", log, re.MULTILINE))
    assert known
    assert set(kafka_properties(stack.services["kafka-1"].environment)) <= known


async def test_one_broker_and_one_of_each_do_for_a_laptop(
    laptop: Stack, kafka_install: Install
) -> None:
    laptop.start_kafka("kafka-1", kafka_install)
    await laptop.healthy("kafka-1")
    laptop.run("secrets")
    assert await start_ours(laptop) == ["gateway-1", "processor-1", "exporter-1"]
    await a_submission_is_seen(laptop)


async def start_ours(stack: Stack) -> list[str]:
    """Start every copy of our services, and the edge; return them when all are healthy."""
    copies = [copy for name in OURS for copy in stack.copies(name)]
    for copy in copies:
        stack.start(copy)
    start_edge(stack)
    for copy in copies:
        await stack.healthy(copy)
    return copies


def start_edge(stack: Stack) -> None:
    certificate = stack.volume("tls") / "edge.pem"
    assert certificate.stat().st_mode & 0o777 == 0o640
    stack.start_program(
        "edge",
        programs.haproxy(),
        EDGE_DNS=stack.names.address,
        EDGE_HTTP=f"127.0.0.1:{stack.port('edge', '8000')}",
        EDGE_HTTPS=f"127.0.0.1:{stack.port('edge', '8443')}",
        EDGE_OWN=f"127.0.0.1:{stack.port('edge', '8404')}",
        EDGE_CERTIFICATE=str(certificate),
        GATEWAY_PORT=str(stack.port("gateway", "8000")),
        EXPORTER_PORT=str(stack.port("exporter", "8001")),
    )


async def more_of_them(stack: Stack) -> list[str]:
    """Start a third gateway and processor, as `--scale` does; the edge finds the gateway."""
    more = ["gateway-3", "processor-3"]
    for copy in more:
        stack.start(copy)
    for copy in more:
        await stack.healthy(copy)
    assert "processor-3" in await names_in_the_group(stack)
    up = re.compile(r'haproxy_server_status\{proxy="gateways",server="\w+",state="UP"\} 1')
    url = f"http://127.0.0.1:{stack.port('edge', '8404')}/metrics"
    async with httpx.AsyncClient(trust_env=False) as http:

        async def found() -> bool:
            return len(up.findall((await http.get(url)).text)) == 3

        await until(stack, found)
    return more


async def names_in_the_group(stack: Stack) -> set[str]:
    """The names that the processors have locked."""
    return {file.name for file in stack.volume("workers").iterdir()}


async def a_submission_is_seen(stack: Stack) -> None:
    """Everything through the one address, once with HTTP and once with TLS."""
    trust = ssl.create_default_context(cafile=stack.volume("tls") / "edge.pem")
    plain, closed = (f"127.0.0.1:{stack.port('edge', there)}" for there in ("8000", "8443"))
    async with httpx.AsyncClient(timeout=30, trust_env=False, verify=trust) as http:
        await until(stack, lambda: answers(http, f"http://{plain}/-/ready"))
        for client, url in (("c1", f"http://{plain}"), ("c2", f"https://{closed}")):
            registered = await http.post(
                f"{url}/api/v1/clients/register",
                json={"name": "Lab router", "type": "docker", "client_id": client},
                headers={"authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"},
            )
            assert registered.status_code == 200, registered.text
            submitted = await http.post(
                f"{url}/api/v1/clients/{client}/metrics",
                json={"metrics": {"bytes_sent": 42}},
                headers={"authorization": f"Bearer {registered.json()['api_key']}"},
            )
            assert submitted.status_code == 200, submitted.text
            scrape = await http.get(
                f"{url}/metrics",
                params={"after": submitted.json()["receipt"]},
                headers={"authorization": f"Bearer {TOKENS['METRICS_TOKEN']}"},
            )
            assert scrape.status_code == 200, scrape.text
            labels = f'client_id="{client}",headless="false",name="Lab router",type="docker"'
            assert f"tobogganing_client_bytes_sent{{{labels}}} 42" in scrape.text
    ledgers = [n for n in range(20) if f'read_total{{partition="{n}"}}' in scrape.text]
    assert ledgers == list(range(12))


async def submissions_go_on_without_a_broker(stack: Stack) -> None:
    """Kill one of three brokers; within the patience a submission is acknowledged and shown."""
    victim = stack.running.pop("kafka-2")
    process.send(victim, signal.SIGKILL)
    await process.ended(victim)
    url = f"http://127.0.0.1:{stack.port('edge', '8000')}"
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:

        async def registered() -> Any:
            answer = await http.post(
                "/api/v1/clients/register",
                json={"name": "Lab router", "type": "docker"},
                headers={"authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"},
            )
            return answer.json() if answer.status_code == 200 else None

        client = await until(stack, registered)

        async def submitted() -> Any:
            answer = await http.post(
                f"/api/v1/clients/{client['client_id']}/metrics",
                json={"metrics": {"bytes_sent": 43}},
                headers={"authorization": f"Bearer {client['api_key']}"},
            )
            return answer.json().get("receipt")

        receipt = await until(stack, submitted)

        async def shown() -> bool:
            scrape = await http.get(
                "/metrics",
                params={"after": receipt},
                headers={"authorization": f"Bearer {TOKENS['METRICS_TOKEN']}"},
            )
            return scrape.status_code == 200 and f'"{client["client_id"]}"' in scrape.text

        assert await until(stack, shown)


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False
