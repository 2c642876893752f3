"""Gateway and exporter on one port, with a real processor."""

import signal
from collections import Counter
from pathlib import Path

from contract.kinds import KINDS
from exporter.metrics import PIPELINE_FAMILIES
from service.config.settings import KafkaSettings
from tests.integration.processes import ADMIN_TOKEN, Service

MANAGER_FAMILIES = {
    "tobogganing_manager_clusters_total": "gauge",
    "tobogganing_manager_clients_total": "gauge",
    "tobogganing_manager_http_requests_total": "counter",
    "tobogganing_manager_auth_attempts_total": "counter",
    "tobogganing_manager_certificates_issued_total": "counter",
}
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


async def register_client(manager: Service, id: str) -> dict[str, str]:
    body = {"name": "Ann's box", "type": "docker", "client_id": id}
    response = await manager.http.post("/api/v1/clients/register", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text
    return {"authorization": f"Bearer {response.json()['api_key']}"}


async def test_a_submission_is_exported_on_the_same_port(manager: Service) -> None:
    credential = await register_client(manager, "test-client")
    body = {"headless": False, "metrics": {"bytes_sent": 1000, "connection_uptime": 60}}
    response = await manager.http.post(
        "/api/v1/clients/test-client/metrics", json=body, headers=credential
    )
    assert response.status_code == 200, response.text
    text = (await manager.scrape(response.json()["receipt"])).text
    shown = 'client_id="test-client",headless="false",name="Ann\'s box",type="docker"'
    lines = text.splitlines()
    assert "tobogganing_client_bytes_sent{" + shown + "} 1000" in lines
    assert "tobogganing_client_connection_uptime_seconds{" + shown + "} 60.0" in lines
    assert "tobogganing_manager_clients_total 1.0" in lines
    assert 'tobogganing_manager_auth_attempts_total{result="success",type="api_key"} 1.0' in lines
    asked = 'endpoint="/api/v1/clients/{client_id}/metrics",method="POST",status="200"'
    assert f"tobogganing_manager_http_requests_total{{{asked}}} 1.0" in lines


async def test_every_family_is_exported_once_and_pages_are_served(manager: Service) -> None:
    lines = (await manager.scrape()).text.splitlines()
    types = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
    assert Counter(name for name, _ in types).most_common(1)[0][1] == 1
    expected = MANAGER_FAMILIES | {
        metric.name: "gauge" for kind in KINDS.values() for metric in kind.families
    }
    expected |= {f"tobogganing_pipeline_{field}_total": "counter" for field in PIPELINE_FAMILIES}
    shown = dict(types)
    assert {name: shown.get(name) for name in expected} == expected
    assert "tobogganing_exporter_rows_applied_total" in shown
    assert any(name.startswith("tobogganing_gateway_") for name in shown)
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert helps == [name for name, _ in types]
    assert not [line for line in lines if "_created" in line]
    assert (await manager.http.get("/-/metrics")).status_code == 404

    page = await manager.http.get("/")
    assert page.status_code == 200
    assert "/api/v1/openapi.json" in page.text
    assert (await manager.http.get("/api/v1/openapi.json")).status_code == 200

    assert await manager.end(signal.SIGTERM) == 0, "it stops cleanly"
    assert manager.errors() == []


async def test_a_shard_serves_its_partitions(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, processor: Service
) -> None:
    extra = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys, "EXPORTER_SHARD": "2/2"}
    async with Service("tobogganing.manager", kafka_settings, tmp_path, **extra) as manager:
        await manager.wait_until_ready()
        for n in range(8):
            credential = await register_client(manager, f"c-{n}")
            response = await manager.http.post(
                f"/api/v1/clients/c-{n}/metrics", json={"metrics": {}}, headers=credential
            )
            receipt = response.json()["receipt"]
            is_own = int(receipt.partition("-")[0]) % 2 == 1
            response = await manager.scrape(receipt)
            assert response.status_code == (200 if is_own else 421)
            if is_own:
                assert f'client_id="c-{n}"' in response.text
        text = (await manager.scrape()).text
        assert "tobogganing_manager_clients_total" not in text
        assert "tobogganing_gateway_submissions_total" in text
        assert (await manager.http.get("/")).status_code == 200


async def test_readiness_includes_the_processor(manager: Service, processor: Service) -> None:
    await processor.end(signal.SIGKILL)
    response = await manager.until("/-/ready", 503)
    assert response.json()["waiting_for"] == ["processor"]
    assert (await manager.scrape()).status_code == 200
    await processor.start()
    await manager.wait_until_ready()


async def test_every_missing_setting_is_reported(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    service = Service("tobogganing.manager", kafka_settings, tmp_path, METRICS_TOKEN="")
    await service.start()
    assert await service.ended() == 2
    for name in ("METRICS_TOKEN", "ADMIN_TOKEN"):
        assert f"{name} (or {name}_FILE) is not set" in service.log()
    assert "SIGNING_KEYS_DIR is not set" in service.log()
