"""deploy/kubernetes behind the proxies of two ingress controllers: promises and attacks."""

import asyncio
import gzip
import itertools
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.config.settings import KafkaSettings
from tests.ingress import attacks
from tests.ingress.installation import Installation, installation
from tests.ingress.running import NGINX_FIRST
from tests.integration.gateways import bearer, in_time, register, registered
from tests.integration.processes import METRICS_TOKEN

JSON = {"content-type": "application/json"}
TOKEN = {"authorization": f"Bearer {METRICS_TOKEN}"}
MEBIBYTE = 1 << 20
PROXYS_OWN = {502, 503, 504}


@pytest.mark.parametrize("controller", NGINX_FIRST)
async def test_promises_hold_behind_an_ingress(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, controller: str
) -> None:
    """One installation for all of it: a broker and three services take seconds to start."""
    async with installation(controller, kafka_settings, tmp_path, signing_keys) as site:
        key = await registered(site.gateways[0], "victim")
        await _http_is_redirected(site, key)
        await _each_path_has_its_service(site)
        await attacks.no_spelling_reaches_another_path(site)
        await _large_bodies_arrive(site)
        await _too_large_bodies_are_refused_by_a_gateway(site)
        await attacks.addresses_cannot_be_forged(site)
        await attacks.arrivals_cannot_be_forged(site, key)
        await attacks.nothing_can_be_smuggled(site, key)
        await _a_killed_gateway_loses_nothing(site, kafka_settings)


async def _http_is_redirected(site: Installation, key: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=f"http://localhost:{site.ports.http}") as plain:
        for method, path in (("POST", "/api/v1/clients/victim/metrics"), ("GET", "/metrics")):
            answer = await plain.request(method, path, json={"metrics": {}}, headers=key)
            assert answer.status_code in (302, 308), answer.text
            assert answer.headers["location"].startswith("https://localhost")
            assert answer.headers["location"].endswith(path)
            assert ":8443" not in answer.headers["location"]


READ = (
    *("/", "/metrics/fleet", "/api/v1/ledger", "/checkins"),
    *("/api/v1/checkins", "/api/v1/checkins?kind=client"),
)


async def _each_path_has_its_service(site: Installation) -> None:
    async with site.client() as http:
        metrics = await http.get("/metrics", headers=TOKEN)
        assert (metrics.status_code, metrics.text) == (200, (await site.exporter.scrape()).text)
        for path in READ:
            answer = await http.get(path, headers=TOKEN)
            # A gateway has none of these paths.
            assert answer.status_code in (200, 303, 400, 503), (path, answer.text)
        receipt = await http.get("/api/v1/receipts/0-0-0", headers=TOKEN)
        assert "receipt" in receipt.json()["error"]
        assert (await http.get("/-/ready")).json() == (
            await site.gateways[0].http.get("/-/ready")
        ).json()


async def _large_bodies_arrive(site: Installation) -> None:
    """Whole, in chunks, compressed, and after a 100."""
    relay = await register(site.gateways[0], "relays", name="R", scope="all")
    headers = JSON | bearer(relay.json()["api_key"])
    body = _batch(2 * MEBIBYTE)
    async with site.client() as http:
        for content, more in (
            (body, {}),
            (_chunks(body), {}),
            (gzip.compress(body), {"content-encoding": "gzip"}),
        ):
            answer = await http.post("/api/v1/metrics", content=content, headers=headers | more)
            assert answer.status_code == 200, answer.text
            assert answer.json()["accepted"] == body.count(b"victim")
    head = "POST /api/v1/metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", site.ports.https, ssl=site.tls(), server_hostname="localhost"
    )
    writer.write(head.encode())
    async with asyncio.timeout(20):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


def _batch(size: int) -> bytes:
    item: dict[str, Any] = {"kind": "client", "id": "victim", "metrics": {"bytes_sent": 1}}
    item["padding"] = "x" * 10_000
    return json.dumps([item] * (size // 10_000)).encode()


async def _chunks(body: bytes) -> Any:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


async def _too_large_bodies_are_refused_by_a_gateway(site: Installation) -> None:
    """An agent discards a sample only if the manager itself has refused it."""
    relay = await register(site.gateways[0], "relays", name="R", scope="all")
    headers = JSON | bearer(relay.json()["api_key"])
    async with site.client() as http:
        content = b" " * (8 * MEBIBYTE + MEBIBYTE // 2)
        answer = await http.post("/api/v1/metrics", content=content, headers=headers)
        assert answer.status_code == 413, answer.text
        assert answer.headers["tobogganing-service"] == "manager"
        assert "error" in answer.json()


async def _a_killed_gateway_loses_nothing(site: Installation, settings: KafkaSettings) -> None:
    key = await registered(site.gateways[1], "busy")
    numbers = itertools.count(1_000_000)
    acknowledged: set[float] = set()
    refused: list[httpx.Response] = []
    after_the_kill = 0
    is_killed = False

    async def load() -> None:
        nonlocal after_the_kill
        async with site.client() as http:
            while after_the_kill < 100:
                value = next(numbers)
                body = {"metrics": {"bytes_sent": value}}
                try:
                    answer = await http.post("/api/v1/clients/busy/metrics", json=body, headers=key)
                except httpx.RemoteProtocolError:
                    continue  # HAProxy closes a connection that is not new without a response
                if answer.status_code == 200:
                    acknowledged.add(value)
                    after_the_kill += is_killed
                else:
                    refused.append(answer)

    async def kill() -> None:
        nonlocal is_killed
        async with asyncio.timeout(20):
            while len(acknowledged) < 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await site.gateways[0].end(signal.SIGKILL)
        is_killed = True

    async with asyncio.timeout(60):
        await asyncio.gather(kill(), *(load() for _ in range(16)))
    assert {answer.status_code for answer in refused} <= PROXYS_OWN
    for answer in refused:
        # An agent keeps a sample that an intermediary refuses.
        assert "tobogganing-service" not in answer.headers
    assert acknowledged <= await in_time(settings)
