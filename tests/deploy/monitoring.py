"""What watches the pipeline of docker-compose.yml, started: Prometheus, stores, Alertmanager."""

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.deploy import programs
from tests.deploy.compose import ROOT
from tests.deploy.config import faster, folder_of, scrape_here
from tests.deploy.grafana import GRAFANA
from tests.deploy.stack import PATIENCE, POLL, Stack
from tests.e2e.prometheus import Programs
from tools.debian import Program


async def prometheus_scrapes_all_of_it(stack: Stack, found: Programs) -> None:
    """Start the rest with the file's arguments; configurations differ in addresses only."""
    victoria, vmalert = programs.victoria_metrics(), programs.vmalert()
    for name in ("victoria-week", "victoria-long"):
        address = f"127.0.0.1:{stack.port(name, '8428')}"
        # What was written counts at once, not after 30 s.
        flags = (f"-httpListenAddr={address}", "-search.latencyOffset=1s")
        stack.start_program(name, victoria, *flags)
    faster(folder_of(stack, "months", "/etc/vmalert") / "months.yml")
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
        files = {Path(group["file"]).name for group in groups}
        assert files == {file.name for file in (ROOT / "deploy/prometheus/rules").iterdir()}
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        alerts = [r["name"] for g in groups for r in g["rules"] if r["type"] == "alerting"]
        assert {"ClientOffline", "HeadendHighCPU", "HeadendDown"} < set(alerts)

        async def seen() -> Any:
            return (await ask(http, "/query", query="tobogganing_client_bytes_sent"))["result"]

        samples = await until(stack, seen)
    assert [sample["value"][1] for sample in samples] == ["42", "42"]
    assert {sample["metric"]["job"] for sample in samples} == {"tobogganing-manager"}


async def averages_arrive(stack: Stack) -> None:
    """Wait for a 5-minute average in the one store, and the hour and its month in the other."""
    for name, series in (
        ("victoria-week", "tobogganing:client_bytes_sent:avg5m"),
        ("victoria-long", "tobogganing:client_bytes_sent:increase1h"),
        ("victoria-long", "tobogganing:client_bytes_sent:increase_month"),
    ):
        address = f"127.0.0.1:{stack.port(name, '8428')}"
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", trust_env=False) as http:

            async def found(http: httpx.AsyncClient = http, series: str = series) -> Any:
                return (await ask(http, "/series", **{"match[]": series})) or None

            assert {one["client_id"] for one in await until(stack, found)} == {"c1", "c2"}


async def grafanas_sources_answer(stack: Stack) -> None:
    """Ask each data source as Grafana does when it checks one."""
    text = (GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    urls = re.findall(r"url: (\S+)", stack.addresses(text))
    assert len(urls) == 3
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        for url in urls:
            answer = await http.post(f"{url}/api/v1/query", data={"query": "1+1"})
            assert answer.json()["status"] == "success", answer.text


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
