"""What docker-compose would start, started: from submission through the edge to the stores."""

import asyncio
import re
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import programs
from tests.deploy.compose import ROOT, Service, kafka_properties
from tests.deploy.config import scrape_here
from tests.deploy.conftest import TOKENS
from tests.deploy.dns import NameServer
from tests.deploy.image import install_as_image
from tests.deploy.stack import OURS, PATIENCE, POLL, Stack
from tests.e2e.prometheus import Programs
from tobogganing.local import process
from tobogganing.local.debian import Program
from tobogganing.local.install import Install

GRACE = 15
"""Seconds that the file gives a container to stop."""


@pytest.fixture
async def stack(services: dict[str, Service], tmp_path: Path) -> AsyncIterator[Stack]:
    folder = tmp_path / "stack"
    folder.mkdir()
    async with NameServer() as names:
        stack = Stack(services, install_as_image(ROOT, tmp_path / "image"), folder, names)
        yield stack
        stack.kill()


async def test_everything_that_the_file_starts_works_together(
    stack: Stack, kafka_install: Install, prometheus_programs: Programs
) -> None:
    for name in stack.brokers:
        stack.start_kafka(name, kafka_install)
    await stack.healthy("kafka-1")
    stack.run("secrets")
    copies = [copy for name in OURS for copy in stack.copies(name)]
    assert len(copies) == 6
    for copy in copies:
        stack.start(copy)
    start_edge(stack)
    for copy in copies:
        await stack.healthy(copy)
    assert await names_in_the_group(stack) == {"processor-1", "processor-2"}
    await a_submission_is_seen(stack)
    copies += await more_of_them(stack)
    await prometheus_scrapes_all_of_it(stack, prometheus_programs)
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


async def prometheus_scrapes_all_of_it(stack: Stack, found: Programs) -> None:
    """Start the rest with the file's arguments; configurations differ in addresses only."""
    victoria, vmalert = programs.victoria_metrics(), programs.vmalert()
    for name in ("victoria-week", "victoria-long"):
        address = f"127.0.0.1:{stack.port(name, '8428')}"
        stack.start_program(name, victoria, f"-httpListenAddr={address}")
    address = f"127.0.0.1:{stack.port('months', '8880')}"
    stack.start_program("months", vmalert, f"-httpListenAddr={address}")
    listen = f"--web.listen-address=127.0.0.1:{stack.port('alertmanager', '9093')}"
    stack.start_program("alertmanager", programs.alertmanager(stack.folder), listen)
    scrape_here(stack)
    shutil.rmtree(stack.volume("prometheus"))
    port = stack.port("prometheus", "9090")
    address = f"--web.listen-address=127.0.0.1:{port}"
    stack.start_program("prometheus", Program(found.prometheus), address)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10, trust_env=False
    ) as http:
        targets = await until_all_up(stack, http)
        assert len(targets) == 1 + 6 + 1 + 1 + 4
        managers = await ask(http, "/alertmanagers")
        assert len(managers["activeAlertmanagers"]) == 1
        groups = (await ask(http, "/rules"))["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        alerts = [r["name"] for g in groups for r in g["rules"] if r["type"] == "alerting"]
        assert {"ClientOffline", "HeadendHighCPU", "HeadendDown"} < set(alerts)

        async def seen() -> Any:
            return (await ask(http, "/query", query="tobogganing_client_bytes_sent"))["result"]

        samples = await until(stack, seen)
    assert [sample["value"][1] for sample in samples] == ["42", "42"]
    assert {sample["metric"]["job"] for sample in samples} == {"tobogganing-manager"}
    await averages_arrive(stack)


async def averages_arrive(stack: Stack) -> None:
    """Wait for a 5-minute average in the one store, and the hour and its month in the other."""
    for name, series in (
        ("victoria-week", "tobogganing:client_bytes_sent:avg5m"),
        ("victoria-long", "tobogganing:client_bytes_sent:increase1h"),
    ):
        address = f"127.0.0.1:{stack.port(name, '8428')}"
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", trust_env=False) as http:

            async def found(http: httpx.AsyncClient = http, series: str = series) -> Any:
                return (await ask(http, "/series", **{"match[]": series})) or None

            assert {one["client_id"] for one in await until(stack, found)} == {"c1", "c2"}


async def ask(http: httpx.AsyncClient, path: str, **parameters: str) -> Any:
    response = await http.get(path, params=parameters)
    response.raise_for_status()
    return response.json()["data"]


async def until(stack: Stack, condition: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer that holds, while everything that was started runs."""
    async with asyncio.timeout(PATIENCE):
        while not (answer := await condition()):
            for name in stack.running:
                stack.check_running(name)
            await asyncio.sleep(POLL)
    return answer


async def until_all_up(stack: Stack, http: httpx.AsyncClient) -> list[dict[str, Any]]:
    targets: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while not targets or any(target["health"] != "up" for target in targets):
                await asyncio.sleep(POLL)
                for name in stack.running:
                    stack.check_running(name)
                try:
                    targets = (await http.get("/targets")).json()["data"]["activeTargets"]
                except (httpx.TransportError, ValueError):
                    continue  # it still starts
    except TimeoutError:
        down = [(t["scrapeUrl"], t["lastError"]) for t in targets if t["health"] != "up"]
        raise AssertionError(f"{down}\n{stack.log('prometheus')[-3000:]}") from None
    return targets
