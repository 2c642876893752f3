"""Every dashboard shows data: each query of each panel runs on a real Prometheus with real data.

Grafana's server is in no package registry, so the test does its part: it replaces the variables and
sends the queries.
"""

import asyncio
import contextlib
import math
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.kinds import HEADEND
from service.config.settings import KafkaSettings
from tests.deploy import program_log
from tests.deploy.compose import ComposeService as Container
from tests.deploy.grafana import (
    DATA_SOURCE,
    GRAFANA,
    PROVISIONED,
    Dashboard,
    PanelQuery,
    dashboards,
    fill,
)
from tests.e2e.prometheus import Programs, Prometheus, running_prometheus
from tests.figures import tell
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, Service
from tests.shared_kafka import SharedKafka
from tests.unit.families import SECTIONS
from tobogganing.devstack.secrets import provide_signing_keys

PROMETHEUS_OWN = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_series_added"}
GUIDE_PANELS = ["Active Clients by Type", "Total Bandwidth Usage", "Headend CPU Usage"]
SCHEMA = 42
"""Schema version of the dashboards that Grafana 13 writes."""
RATE_INTERVAL = "20s"
POLL = 0.5
PATIENCE = 90.0

each_dashboard = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda each: each.name)


def known_samples() -> set[str]:
    """Names that a query may use: every family, and the samples of histograms."""
    names = set(PROMETHEUS_OWN)
    for families in SECTIONS.values():
        for name, type, _, _ in families():
            suffixes = ("_bucket", "_sum", "_count") if type == "histogram" else ("",)
            names |= {name + suffix for suffix in suffixes}
    return names


@each_dashboard
def test_queries_ask_for_what_there_is(dashboard: Dashboard) -> None:
    selectors = [variable.selector for variable in dashboard.variables()]
    for text in [query.expr for query in dashboard.queries()] + selectors:
        named = set(re.findall(r"\b(?:tobogganing_\w+|up|scrape_\w+)\b", re.sub('".*?"', "", text)))
        assert named, text
        assert named <= known_samples(), text


@each_dashboard
def test_a_dashboard_is_whole(dashboard: Dashboard) -> None:
    panels = dashboard.json["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in dashboard.panels:
        assert panel["datasource"]["uid"] == DATA_SOURCE
        assert panel["targets"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]
    fields = [cell for panel in panels for cell in cells(panel["gridPos"])]
    assert len(set(fields)) == len(fields), "panels overlap"
    assert all(x < 24 for x, _ in fields)


def cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


@each_dashboard
def test_a_dashboard_follows_the_conventions(dashboard: Dashboard) -> None:
    """Variables for data source, cluster and job, which every query uses."""
    first, *_ = variables = dashboard.json["templating"]["list"]
    assert (first["type"], first["name"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert [each["name"] for each in variables[1:3]] == ["cluster", "job"]
    assert dashboard.json["schemaVersion"] >= SCHEMA
    for query in dashboard.queries():
        series = len(re.findall(r"\b(?:tobogganing_\w+|up|scrape_\w+)\{", query.expr))
        assert series == query.expr.count('cluster=~"$cluster"')
        assert series == len(re.findall(r'job=~?"(?:\$job|tobogganing-[^"]+)"', query.expr))


def test_the_guides_panels_come_first() -> None:
    (guide,) = (each for each in dashboards() if each.json["title"] == "Tobogganing Monitoring")
    assert [panel["title"] for panel in guide.panels] == GUIDE_PANELS


def test_dashboards_are_told_apart() -> None:
    for key in ("uid", "title"):
        assert len({each.json[key] for each in dashboards()}) == len(dashboards())


def test_totals_that_reset_are_only_shown_by_functions_that_know_it() -> None:
    """For totals of a client, `rate` and `resets` handle restarts; the current value is shown as a
    stat."""
    counted = re.compile(r"tobogganing_client_(?:bytes|packets)_(?:sent|received)")
    for dashboard in dashboards():
        for query in dashboard.queries():
            bare = re.sub(r"(?:rate|increase)\(" + counted.pattern + r"[^\]]*\]\)", "", query.expr)
            assert not counted.search(bare) or query.instant, query
            assert not re.search(r"\b(?:i?delta|deriv|irate)\(", query.expr), query


def test_gauges_are_of_those_that_checked_in_lately() -> None:
    """/metrics shows the last values of a silent entity for 24 hours."""
    gauges = [metric.name for metric in HEADEND.metrics]
    gauges.append("tobogganing_client_connection_uptime_seconds")
    for dashboard in dashboards():
        for query in dashboard.queries():
            bare = re.sub(r"(?:rate|resets)\([^)]*\)", "", query.expr)
            for gauge in (gauge for gauge in gauges if gauge in bare):
                kind, limit = ("headend", 300) if "headend" in gauge else ("client", 900)
                check_in = rf"tobogganing_{kind}_last_check_in_timestamp(\{{.*?\}})?"
                lately = rf"and {check_in} > time\(\) - {limit}"
                assert re.search(lately, query.expr), query


def test_provisioning_names_what_is_there(services: dict[str, Container]) -> None:
    sources = (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8")
    hosts = re.findall(r"url: http://([\w-]+):(\d+)", sources)
    assert hosts[0] == ("prometheus", "9090")
    assert {host for host, _ in hosts} <= set(services)
    assert re.findall(r"uid: (\S+)", sources)[0] == PROVISIONED
    mounts = {mount.target: Path(mount.source) for mount in services["grafana"].mounts}
    providers = GRAFANA / "provisioning" / "dashboards" / "tobogganing.yml"
    (folder,) = re.findall(r"path: (\S+)", providers.read_text("utf-8"))
    for target, source in ((folder, "dashboards"), ("/etc/grafana/provisioning", "provisioning")):
        mounted = mounts[target]
        assert [file.name for file in sorted(mounted.rglob("*"))] == [
            file.name for file in sorted((GRAFANA / source).rglob("*"))
        ]


@contextlib.asynccontextmanager
async def simulated_fleet(url: str) -> AsyncIterator[None]:
    """Clients and headends that report every second."""
    fleet = ("--clients", "40", "--headends", "8", "--interval", "1", "--seed", "1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tobogganing", "simulate", "--url", url, *fleet),
        stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | {"ADMIN_TOKEN": ADMIN_TOKEN},
    )
    try:
        yield
        assert process.returncode is None, "the fleet ended early"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def scrape_config(gateway: Service, processor: Service, exporter: Service) -> str:
    """The jobs of deploy/prometheus/prometheus.yml, with the addresses and intervals of a test."""
    jobs = [
        ("tobogganing-manager", "/metrics", exporter),
        ("tobogganing-fleet", "/metrics/fleet", exporter),
        ("tobogganing-gateway", "/metrics", gateway),
        ("tobogganing-processor", "/metrics", processor),
        ("tobogganing-exporter", "/-/metrics", exporter),
    ]
    lines = ["global: {scrape_interval: 1s}", "scrape_configs:"]
    for name, path, service in jobs:
        lines += [
            f"  - job_name: {name}",
            f"    metrics_path: {path}",
            f"    authorization: {{credentials: {METRICS_TOKEN}}}",
            "    static_configs:",
            f"      - {{targets: ['127.0.0.1:{service.port}'], labels: {{cluster: lab}}}}",
        ]
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def scraped_pipeline(
    kafka: KafkaSettings, folder: Path, programs: Programs
) -> AsyncIterator[Prometheus]:
    """The three services, a simulated fleet, and a Prometheus."""
    secrets = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": str(provide_signing_keys(folder, {})),
    }
    async with (
        Service("processor", kafka, folder, WORKER_NAME="w") as processor,
        Service("gateway", kafka, folder, **secrets) as gateway,
        Service("exporter", kafka, folder) as exporter,
    ):
        for service in (processor, gateway, exporter):
            await service.wait_until_ready()
        config = scrape_config(gateway, processor, exporter)
        async with (
            simulated_fleet(gateway.url),
            running_prometheus(programs, config, folder) as prometheus,
        ):
            for program in ("kafka", "processor", "gateway", "exporter", "simulate", "prometheus"):
                program_log.note(program)
            yield prometheus


async def values_of_variables(prometheus: Prometheus, dashboard: Dashboard) -> dict[str, str]:
    """One value of each variable, as Grafana would offer it."""
    values = dashboard.text_boxes() | {"__rate_interval": RATE_INTERVAL}
    for variable in dashboard.variables():
        offered: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while not offered:
                await asyncio.sleep(POLL)
                path = f"/api/v1/label/{variable.label}/values"
                offered = await prometheus.ask(path, **{"match[]": fill(variable.selector, values)})
        values[variable.name] = variable.all or offered[0]
    return values


async def shows(prometheus: Prometheus, query: PanelQuery, values: dict[str, str]) -> str | None:
    """Send a query as Grafana does; return what is wrong with the response, if anything."""
    expr, now = query.filled(values), time.time()
    path, times = "/api/v1/query_range", {"start": str(now - 10), "end": str(now), "step": "1"}
    if query.instant:
        path, times = "/api/v1/query", {"time": str(now)}
    try:
        result: list[dict[str, Any]] = (await prometheus.ask(path, query=expr, **times))["result"]
    except httpx.HTTPStatusError as error:
        return f"{expr}: {error.response.text}"
    last = [(series.get("values") or [series.get("value")])[-1][1] for series in result]
    if any(math.isfinite(float(value)) for value in last):
        return None
    return f"{expr}: {'nothing but ' + ', '.join(last) if last else 'no data'}"


async def test_no_panel_is_empty_or_fails(
    kafka: SharedKafka, topic_prefix: str, tmp_path: Path, prometheus_programs: Programs
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )
    async with scraped_pipeline(settings, tmp_path, prometheus_programs) as prometheus:
        wrong = {"all": "not asked yet"}
        deadline = time.monotonic() + PATIENCE
        while wrong and time.monotonic() < deadline:
            await asyncio.sleep(POLL)
            wrong, asked = await ask_all(prometheus)
        odd = await prometheus.ask(
            "/api/v1/query", query="sum(tobogganing_processor_anomalies_total)"
        )
    assert wrong == {}
    tell(f"{asked} queries of {len(dashboards())} dashboards, each with data")
    tell(f"odd submissions of the fleet behind them: {odd['result'][0]['value'][1]}")


async def ask_all(prometheus: Prometheus) -> tuple[dict[str, str], int]:
    """Send every query of every dashboard; return what is wrong, and the number of queries."""
    wrong, asked = {}, 0
    for dashboard in dashboards():
        values = await values_of_variables(prometheus, dashboard)
        for query in dashboard.queries():
            asked += 1
            fault = await shows(prometheus, query, values)
            if fault:
                wrong[f"{dashboard.name}: {query.panel}: {query.expr}"] = fault
    return wrong, asked
