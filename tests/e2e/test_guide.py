"""The guide's own requests, by curl, and every family of its three tables."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.local_run import LocalRun

CLIENT = {"client_id", "name", "type", "headless"}
HEADEND = {"headend_id", "name", "region", "datacenter"}
FAMILIES = {
    "tobogganing_client_bytes_sent": CLIENT,
    "tobogganing_client_bytes_received": CLIENT,
    "tobogganing_client_packets_sent": CLIENT,
    "tobogganing_client_packets_received": CLIENT,
    "tobogganing_client_connection_uptime_seconds": CLIENT,
    "tobogganing_client_last_check_in_timestamp": CLIENT,
    "tobogganing_headend_active_connections": HEADEND,
    "tobogganing_headend_bandwidth_in_bytes": HEADEND,
    "tobogganing_headend_bandwidth_out_bytes": HEADEND,
    "tobogganing_headend_cpu_usage_percent": HEADEND,
    "tobogganing_headend_memory_usage_bytes": HEADEND,
    "tobogganing_headend_last_check_in_timestamp": HEADEND,
    "tobogganing_manager_clusters_total": set(),
    "tobogganing_manager_clients_total": set(),
    "tobogganing_manager_http_requests_total": {"method", "endpoint", "status"},
    "tobogganing_manager_auth_attempts_total": {"type", "result"},
    "tobogganing_manager_certificates_issued_total": {"type"},
}
CLIENT_BODY = """{
    "headless": false,
    "metrics": {
      "bytes_sent": 1048576,
      "bytes_received": 2097152,
      "packets_sent": 1000,
      "packets_received": 1500,
      "connection_uptime": 3600
    }
}"""
HEADEND_BODY = """{
    "headend_name": "headend-us-east-1",
    "metrics": {
      "active_connections": 150,
      "bandwidth_in": 10485760,
      "bandwidth_out": 5242880,
      "cpu_usage": 45.2,
      "memory_usage": 2147483648
    }
}"""

pytestmark = pytest.mark.xdist_group("guide")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    with LocalRun(tmp_path_factory.mktemp("guide") / "state") as run:
        run.until_ready()
        yield run


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", "--noproxy", "*", "--max-time", "20", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def post(run: LocalRun, path: str, credential: str, body: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        curl(
            *("-X", "POST", f"{run.url}{path}"),
            *("-H", f"Authorization: Bearer {credential}"),
            *("-H", "Content-Type: application/json"),
            *("-d", body),
        )
    )
    return answer


def scrape(run: LocalRun, receipt: str, *arguments: str) -> str:
    token = run.secret("METRICS_TOKEN")
    url = f"{run.url}/metrics?after={receipt}"
    return curl(*arguments, "-H", f"Authorization: Bearer {token}", url)


def register(run: LocalRun, path: str, **fields: str) -> dict[str, Any]:
    return post(run, path, run.secret("ADMIN_TOKEN"), json.dumps(fields))


@pytest.fixture(scope="module")
def receipts(run: LocalRun) -> tuple[str, str]:
    """A client's and a headend's submission, as the guide shows them."""
    client = register(
        run, "/api/v1/clients/register", name="Anna", type="client_native", client_id="c-1"
    )
    cluster = register(
        run, "/api/v1/clusters/register", name="East", region="us-east", datacenter="iad1"
    )
    headend = register(
        run,
        "/api/v1/headends/register",
        name="edge",
        cluster_id=cluster["cluster_id"],
        headend_id="h-1",
    )
    token = json.loads(
        curl(
            *("-X", "POST", f"{run.url}/api/v1/auth/token"),
            *("-H", "Content-Type: application/json"),
            "-d",
            json.dumps({"node_id": "h-1", "node_type": "headend", "api_key": headend["api_key"]}),
        )
    )
    assert token["token_type"] == "Bearer"
    sent = (
        post(run, "/api/v1/clients/c-1/metrics", client["api_key"], CLIENT_BODY),
        post(run, "/api/v1/headends/h-1/metrics", token["access_token"], HEADEND_BODY),
    )
    assert [answer["status"] for answer in sent] == ["metrics_received"] * 2
    return sent[0]["receipt"], sent[1]["receipt"]


@pytest.mark.parametrize(
    "accept", ["*/*", "application/openmetrics-text; version=1.0.0"], ids=["text", "openmetrics"]
)
def test_every_family_of_the_guide_is_there(
    run: LocalRun, receipts: tuple[str, str], accept: str
) -> None:
    text = scrape(run, f"{receipts[0]}&after={receipts[1]}", "-H", f"Accept: {accept}")
    for family, labels in FAMILIES.items():
        samples = re.findall(rf"^{family}(?:\{{(.*)\}})? \S+$", text, re.MULTILINE)
        assert samples, f"{family} has no series"
        for sample in samples:
            assert set(re.findall(r'(\w+)="', sample)) == labels
    assert "_created" not in text


def test_values_and_labels_are_what_was_sent(run: LocalRun, receipts: tuple[str, str]) -> None:
    text = scrape(run, f"{receipts[0]}&after={receipts[1]}", "--compressed")
    client = '{client_id="c-1",headless="false",name="Anna",type="native"}'
    assert f"tobogganing_client_bytes_sent{client} 1048576" in text
    assert f"tobogganing_client_connection_uptime_seconds{client} 3600.0" in text
    headend = '{datacenter="iad1",headend_id="h-1",name="headend-us-east-1",region="us-east"}'
    assert f"tobogganing_headend_cpu_usage_percent{headend} 45.2" in text
    assert f"tobogganing_headend_memory_usage_bytes{headend} 2147483648" in text
    assert "tobogganing_manager_clients_total 1.0" in text
    assert "tobogganing_manager_clusters_total 1.0" in text


def test_the_guides_shell_client_may_send_floats(
    run: LocalRun, receipts: tuple[str, str], tmp_path: Path
) -> None:
    """Its uptime, from /proc/uptime, has a fraction."""
    client = register(run, "/api/v1/clients/register", name="Cron", type="docker")
    body = """{
    "headless": true,
    "metrics": {"bytes_sent": 1.048576e+06, "packets_sent": 60.0, "connection_uptime": 12345.67}
  }"""
    path = f"/api/v1/clients/{client['client_id']}/metrics"
    receipt = post(run, path, client["api_key"], body)["receipt"]
    text = scrape(run, receipt)
    labels = f'{{client_id="{client["client_id"]}",headless="true",name="Cron",type="docker"}}'
    assert f"tobogganing_client_packets_sent{labels} 60" in text
    assert f"tobogganing_client_connection_uptime_seconds{labels} 12345.67" in text
    assert f"tobogganing_client_bytes_received{labels}" not in text


def test_the_readmes_commands_work_as_they_stand(run: LocalRun) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(URL=.*?)```", text, re.DOTALL)
    assert "127.0.0.1" not in commands, "they work with any PORT"
    result = subprocess.run(
        ["sh", "-eu"],
        input=commands,
        env=os.environ | {"STATE_DIR": str(run.state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('"status":"metrics_received"') == 2
    assert '"status":"revoked"' in result.stdout
    assert re.search(r'"client_id":"anna","receipt":"\d+-\d+-\d+-\d+"', result.stdout)


def test_commands_find_the_run_and_its_kafka_by_themselves(run: LocalRun) -> None:
    run.until_shown("a submission that was processed")
    ledger = run.command("ledger", "--audit", "--json")
    assert ledger.returncode == 0, ledger.stderr
    shown = json.loads(ledger.stdout)
    assert shown["balances"] is True
    assert sum(each["read"] for each in shown["partitions"]) >= 1
    assert all(each["agrees"] for each in shown["audit"])
    partition = next(each for each in shown["partitions"] if each["read"])
    receipt = f"{partition['partition']}-{partition['offset']}-0"
    answer = json.loads(run.get(f"/api/v1/receipts/{receipt}"))
    assert answer == {"receipt": receipt, "state": "processed", "result": "applied"}
    letters = run.command("dead-letters", "list")
    assert letters.returncode == 0, letters.stderr
    assert len(letters.stdout.splitlines()) == 1, "the heading"
