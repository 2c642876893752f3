"""Errors as seen from outside: problem details for requests that ask for them, RateLimit fields."""

import asyncio
import re
from pathlib import Path

import httpx

from service.config.settings import KafkaSettings
from tests.integration.gateways import gateway, registered
from tests.integration.processes import ADMIN_TOKEN, Service
from tobogganing.devstack.ports import LOOPBACK, free_ports

PROBLEM = "application/problem+json"
ASKING = {"accept": PROBLEM}
PATH = "/api/v1/clients/c/metrics"


def members(response: httpx.Response) -> tuple[int, str, str]:
    """Check that a response is a problem; return its status, title and detail."""
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["vary"] == "Accept"
    problem = response.json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == response.status_code
    assert "error" not in problem
    return problem["status"], problem["title"], problem["detail"]


async def raw(service: Service, head: str) -> tuple[str, str]:
    """Send bytes that need not be HTTP; return the head and the body of the response."""
    reader, writer = await asyncio.open_connection(LOOPBACK, service.port)
    writer.write(head.replace("\n", "\r\n").encode())
    async with asyncio.timeout(20):
        answer = (await reader.read()).decode()
    writer.close()
    first, _, body = answer.partition("\r\n\r\n")
    return first.lower(), body


async def test_every_error_is_a_problem_for_those_that_ask(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    async with gateway(
        kafka_settings, tmp_path, signing_keys, RATE_LIMIT_PER_MINUTE="3"
    ) as service:
        await service.wait_until_ready()
        admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        assert members(await service.http.get("/nowhere", headers=ASKING))[:2] == (404, "Not Found")
        assert members(await service.http.put(PATH, headers=ASKING))[0] == 405
        assert members(await service.http.post(PATH, headers=ASKING, json={}))[0] == 401
        bad = {"name": 1, "type": "native"}
        answer = await service.http.post(
            "/api/v1/clients/register", json=bad, headers=ASKING | admin
        )
        assert members(answer)[:2] == (400, "Bad Request")
        assert answer.json()["field"] == "name"

        # The fast path.
        key = await registered(service, "c")
        plain = await service.http.post(PATH, json={"metrics": {"bytes_sent": "x"}}, headers=key)
        assert plain.headers["content-type"] == "application/json"
        body = {"metrics": {"bytes_sent": "x"}}
        asked = await service.http.post(PATH, json=body, headers=key | ASKING)
        assert members(asked) == (400, "Bad Request", plain.json()["error"])
        assert asked.json()["field"] == plain.json()["field"]
        good = await service.http.post(PATH, json={"metrics": {}}, headers=key | ASKING)
        assert good.headers["content-type"] == "application/json"
        assert good.json()["status"] == "metrics_received"

        limited = await service.http.post(PATH, json={"metrics": {}}, headers=key | ASKING)
        assert members(limited)[:2] == (429, "Too Many Requests")
        wait = limited.headers["retry-after"]
        assert limited.headers["ratelimit-policy"] == '"submissions";q=3;w=60'
        assert limited.headers["ratelimit"] == f'"submissions";r=0;t={wait}'
        assert "ratelimit" not in good.headers

        # Below the application: an invalid head, and a body that is not framed correctly.
        for more, status in (
            ("Content-Length: x\n\n", "400"),
            ("Transfer-Encoding: chunked\n\nno size\n", "400"),
            (f"X-Long: {'x' * 70_000}\n\n", "431"),
        ):
            start = f"POST {PATH} HTTP/1.1\nHost: a\nAccept: {PROBLEM}\n"
            head, text = await raw(service, start + more)
            assert head.startswith(f"http/1.1 {status}"), head
            if status == "400":
                assert f"content-type: {PROBLEM}" in head
                assert '"type":"about:blank"' in text
        head, text = await raw(service, "GET / HTTP/1.1\n\n")
        assert "content-type: application/json" in head
        assert "error" in text

        document = (await service.http.get("/api/v1/openapi.json")).json()
        refused = document["paths"]["/api/v1/clients/{client_id}/metrics"]["post"]["responses"]
        assert set(refused["429"]["content"]) == {"application/json", PROBLEM}
        assert {"Retry-After", "RateLimit", "RateLimit-Policy"} == set(refused["429"]["headers"])


async def test_services_that_are_not_ready_say_so_as_a_problem(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{free_ports(1)[0]}"}
    for name in ("exporter", "processor"):
        async with Service(name, kafka_settings, tmp_path, **nowhere) as service:
            await service.until("/-/healthy", 200)
            status, _, detail = members(await service.http.get("/-/ready", headers=ASKING))
            assert status == 503
            assert re.match("Not ready", detail)
