"""A real Prometheus scrapes the running pipeline, by the guide's own scrape config."""

import os
from pathlib import Path

import pytest

from contract.kinds import CLIENT, HEADEND, EntityKind
from service.config.settings import KafkaSettings
from tests.e2e.prometheus import (
    NoPrometheusError,
    Programs,
    find_programs,
    lint,
    running_prometheus,
)
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, Service

GUIDE_CONFIG = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: 'tobogganing-manager'
    bearer_token: '{token}'
    static_configs:
      - targets: ['127.0.0.1:{port}']
"""

# As the guide's tables have them.
CLIENT_LABELS = {
    "client_id": "test-client",
    "name": 'Ann\'s "first" laptop \\ ü',
    "type": "native",
    "headless": "false",
}
CLIENT_VALUES = {
    "tobogganing_client_bytes_sent": 1048576,
    "tobogganing_client_bytes_received": 2097152,
    "tobogganing_client_packets_sent": 1000,
    "tobogganing_client_packets_received": 1500,
    "tobogganing_client_connection_uptime_seconds": 3600,
    "tobogganing_client_last_check_in_timestamp": 1700000000.25,
}
HEADEND_LABELS = {
    "headend_id": "test-headend",
    "name": "headend-us-east-1",
    "region": "us-east",
    "datacenter": "dc-1",
}
HEADEND_VALUES = {
    "tobogganing_headend_active_connections": 150,
    "tobogganing_headend_bandwidth_in_bytes": 10485760,
    "tobogganing_headend_bandwidth_out_bytes": 5242880,
    "tobogganing_headend_cpu_usage_percent": 45.2,
    "tobogganing_headend_memory_usage_bytes": 2147483648,
    "tobogganing_headend_last_check_in_timestamp": 1700000001,
}
# OpenMetrics names the family of a counter without its _total.
MANAGER_TYPES = {
    "tobogganing_manager_clusters_total": "gauge",
    "tobogganing_manager_clients_total": "gauge",
    "tobogganing_manager_http_requests": "counter",
    "tobogganing_manager_auth_attempts": "counter",
    "tobogganing_manager_certificates_issued": "counter",
}

GUIDE_LINTS = [
    'tobogganing_manager_clients_total non-counter metrics should not have "_total" suffix',
    'tobogganing_manager_clusters_total non-counter metrics should not have "_total" suffix',
]
"""promtool's complaints about the guide's own names; all others have none."""


@pytest.fixture(scope="module")
def programs() -> Programs:
    try:
        return find_programs()
    except NoPrometheusError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no real Prometheus: {error}")


async def post(manager: Service, path: str, credential: str, body: object) -> dict[str, str]:
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    response = await manager.http.post(path, json=body, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, str] = response.json()
    return answer


def body_of(kind: EntityKind, values: dict[str, float]) -> dict[str, object]:
    metrics = {metric.field: values[metric.name] for metric in kind.metrics}
    return {"metrics": metrics, "timestamp": values[kind.last_check_in.name]}


@pytest.fixture
async def reported(manager: Service) -> Service:
    """The manager, after one client and one headend have reported every metric."""
    client = await post(
        manager,
        "/api/v1/clients/register",
        ADMIN_TOKEN,
        {"client_id": "test-client", "name": CLIENT_LABELS["name"], "type": "native"},
    )
    cluster = {"cluster_id": "c", "name": "c", "region": "us-east", "datacenter": "dc-1"}
    await post(manager, "/api/v1/clusters/register", ADMIN_TOKEN, cluster)
    node = {"headend_id": "test-headend", "name": "as registered", "cluster_id": "c"}
    headend = await post(manager, "/api/v1/headends/register", ADMIN_TOKEN, node)
    token = await post(
        manager,
        "/api/v1/auth/token",
        "",
        {"node_id": "test-headend", "node_type": "headend", "api_key": headend["api_key"]},
    )
    receipts = [
        (
            await post(
                manager,
                "/api/v1/clients/test-client/metrics",
                client["api_key"],
                {"headless": False} | body_of(CLIENT, CLIENT_VALUES),
            )
        )["receipt"],
        (
            await post(
                manager,
                "/api/v1/headends/test-headend/metrics",
                token["access_token"],
                {"headend_name": "headend-us-east-1"} | body_of(HEADEND, HEADEND_VALUES),
            )
        )["receipt"],
    ]
    assert (await manager.scrape(*receipts)).status_code == 200
    return manager


async def test_prometheus_reads_every_family_with_each_documented_config(
    reported: Service, programs: Programs, tmp_path: Path
) -> None:
    config = GUIDE_CONFIG.format(token=METRICS_TOKEN, port=reported.port)
    target = {"job": "tobogganing-manager", "instance": f"127.0.0.1:{reported.port}"}
    async with running_prometheus(programs, config, tmp_path) as prometheus:
        for labels, values in ((CLIENT_LABELS, CLIENT_VALUES), (HEADEND_LABELS, HEADEND_VALUES)):
            for name, value in values.items():
                (series,) = await prometheus.series(name)
                assert series["metric"] == {"__name__": name} | labels | target
                assert float(series["value"][1]) == value

        async def count(query: str) -> float:
            (series,) = await prometheus.series(query)
            return float(series["value"][1])

        assert await count("tobogganing_manager_clients_total") == 1
        assert await count("tobogganing_manager_clusters_total") == 1
        asked = 'endpoint="/api/v1/clients/{client_id}/metrics",method="POST",status="200"'
        assert await count(f"tobogganing_manager_http_requests_total{{{asked}}}") == 1
        tried = 'type="jwt",result="success"'
        assert await count(f"tobogganing_manager_auth_attempts_total{{{tried}}}") == 1
        issued = 'tobogganing_manager_certificates_issued_total{type="client"}'
        assert await count(issued) == 0
        assert await count("sum(tobogganing_pipeline_applied_total)") == 2
        assert await count("up") == 1

        metadata = await prometheus.ask("/api/v1/metadata")
        types = dict.fromkeys([*CLIENT_VALUES, *HEADEND_VALUES], "gauge") | MANAGER_TYPES
        assert {name: metadata[name][0]["type"] for name in types} == types
        assert metadata["tobogganing_client_bytes_sent"][0]["help"] == "Bytes sent by client"
    for page in ("README.md", "docs/metrics.md"):
        (folder := tmp_path / page.replace("/", "-")).mkdir()
        config = documented_config(page, reported.port)
        async with running_prometheus(programs, config, folder) as prometheus:
            (series,) = await prometheus.series("tobogganing_manager_clients_total")
            assert float(series["value"][1]) == 1


def documented_config(page: str, port: int) -> str:
    """It has `authorization`, as today's Prometheus documents it; GUIDE_CONFIG has the old form."""
    text = (Path(__file__).parents[2] / page).read_text("utf-8")
    config = text.split("```yaml\n")[1].split("```")[0]
    assert "authorization:" in config
    config = config.replace("YOUR_METRICS_TOKEN", METRICS_TOKEN)
    config = config.replace("manager.example.com:8000", f"127.0.0.1:{port}")
    return f"global:\n  scrape_interval: 1s\n{config}"


async def test_promtool_has_nothing_against_our_names(
    kafka_settings: KafkaSettings, reported: Service, programs: Programs, tmp_path: Path
) -> None:
    """Neither those of a manager, nor those of an exporter alone."""
    response = await reported.scrape()
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert lint(programs, response.content) == GUIDE_LINTS
    async with Service("exporter", kafka_settings, tmp_path) as exporter:
        await exporter.wait_until_ready()
        own = await exporter.http.get("/-/metrics", headers=exporter.authorized)
        assert lint(programs, own.content) == []
        assert lint(programs, (await exporter.scrape()).content) == GUIDE_LINTS
