"""deploy/kubernetes behind the proxies of two ingress controllers: promises and attacks."""

import asyncio
import gzip
import itertools
import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.config.settings import KafkaSettings
from tests.ingress.installation import CLIENT, Installation, installation
from tests.ingress.running import CONTROLLERS
from tests.integration.gateways import ADMIN, bearer, in_time, register, registered
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN
from tests.integration.test_audit_log import logged

JSON = {"content-type": "application/json"}
TOKEN = {"authorization": f"Bearer {METRICS_TOKEN}"}
MEBIBYTE = 1 << 20
PROXYS_OWN = {502, 503, 504}


@pytest.mark.parametrize("controller", CONTROLLERS)
async def test_promises_hold_behind_an_ingress(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, controller: str
) -> None:
    """One installation for all of it: a broker and three services take seconds to start."""
    async with installation(controller, kafka_settings, tmp_path, signing_keys) as site:
        key = await registered(site.gateways[0], "victim")
        await _http_is_redirected(site, key)
        await _each_path_has_its_service(site)
        await _no_spelling_reaches_another_path(site)
        await _large_bodies_arrive(site)
        await _too_large_bodies_are_refused_by_a_gateway(site)
        await _addresses_cannot_be_forged(site)
        await _arrivals_cannot_be_forged(site, key)
        await _nothing_can_be_smuggled(site, key)
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


SPELLINGS = [
    *("/-/metrics", "/-/metrics?x", "/-/metrics/", "/-/metrics;x", "//-/metrics", "/-//metrics"),
    *("/-/%6detrics", "/%2d/metrics", "/%2D%2Fmetrics", "/x/../-/metrics", "/./-/metrics"),
    *("/checkins/../-/metrics", "/checkins/%2e%2e/-/metrics", "/checkins/..%2f-%2fmetrics"),
    *("/metrics/../-/metrics", "/api/v1/receipts/../../../-/metrics", "/metrics/..;/-/metrics"),
    *("/api/v1/receipts/..%2f..%2f..%2f-/metrics", "/checkins/..%5c-/metrics", "/-/metrics%00"),
    *("http://localhost/-/metrics", "/-/metrics%3f", "/-/metrics%20", "/-/metrics#x", "*"),
    *(
        "/%6detrics",
        "//metrics",
        "/x/../metrics",
        "/METRICS",
        "/metrics/",
        "/metrics/x",
        "/metrics;x",
    ),
    *("/checkins/../api/v1/clients/victim", "/metrics/fleet/../../api/v1/clients/victim"),
    *("/api/v1/receipts/../clients/victim", "/api/v1/receipts/%2e%2e/clients/victim"),
    *("/api/v1/clients/x/../victim", "/api/v1//clients/victim", "/api/v1/clients%2fvictim"),
]


async def _no_spelling_reaches_another_path(site: Installation) -> None:
    """With both tokens at hand: neither own metrics nor administration."""
    for path, token in itertools.product(SPELLINGS, (METRICS_TOKEN, ADMIN_TOKEN)):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        answer = await site.raw(f"{head}Connection: close\r\n\r\n".encode())
        status = answer.split(b" ", 2)[1]
        assert status in (b"400", b"401", b"404"), (path, answer)
        assert b"tobogganing_" not in answer
        assert b"victim" not in answer


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


async def _addresses_cannot_be_forged(site: Installation) -> None:
    forged = "203.0.113.9"
    for number, names in enumerate(
        [
            ["X-Forwarded-For"],
            ["x-forwarded-for", "X-Forwarded-For"],
            ["X-Real-IP", "Forwarded", "X-Client-IP", "True-Client-IP", "X_Forwarded_For"],
            ["X-Original-Forwarded-For", "X-Forwarded-For"],
        ]
    ):
        headers = [(name, f"{forged}, 127.0.0.1" if number else forged) for name in names]
        body = {"name": "n", "type": "native", "client_id": f"audited-{number}"}
        async with site.client() as http:
            answer = await http.post(
                "/api/v1/clients/register", json=body, headers=[*ADMIN.items(), *headers]
            )
        assert answer.status_code == 200, answer.text
    lines = [line for each in site.gateways for line in logged(each)]
    ours = [line for line in lines if line["target"].startswith("client:audited-")]
    assert len(ours) == 8
    assert {line["address"] for line in ours} == {CLIENT}
    # Failed attempts count for the real address, whatever a client says.
    async with site.client("127.0.0.78") as one, site.client("127.0.0.79") as other:
        statuses = set()
        for number in range(130):
            answer = await one.get(
                "/api/v1/clients",
                headers=bearer("wrong") | {"X-Forwarded-For": f"198.51.100.{number}"},
            )
            statuses.add(answer.status_code)
        assert statuses == {401, 429}
        assert (await other.get("/api/v1/clients", headers=bearer("wrong"))).status_code == 401


async def _arrivals_cannot_be_forged(site: Installation, key: dict[str, str]) -> None:
    """A gateway that believed these would refuse the submission, or those of others."""
    past, future = time.time() - 9, time.time() + 30
    async with site.client() as http:
        for value in (f"t={past * 1000:.0f}", f"t={past:.3f}", f"t={future * 1000:.0f}"):
            for names in (["X-Request-Start"], ["x-request-start", "X-Request-Start"]):
                headers = [*key.items(), *((name, value) for name in names)]
                await _submit(http, headers)
                await _submit(http, key)


async def _submit(http: httpx.AsyncClient, headers: Any, value: int = 1) -> None:
    body = {"metrics": {"bytes_sent": value}}
    answer = await http.post("/api/v1/clients/victim/metrics", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


SMUGGLED = (
    f"DELETE /api/v1/clients/victim HTTP/1.1\r\nHost: localhost\r\n"
    f"Authorization: Bearer {ADMIN_TOKEN}\r\n"
).encode()
FRAMINGS = [
    b"Content-Length: %(length)d\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: %(length)d\r\n",
    b"Content-Length: 4\r\nContent-Length: %(length)d\r\n",
    b"Content-Length: %(length)d\r\nTransfer-Encoding : chunked\r\n",
    b"Content-Length: %(length)d\r\nTransfer-Encoding: xchunked\r\n",
    b"Content-Length: %(length)d\r\nTransfer-Encoding:\x0bchunked\r\n",
    b"Content-Length: %(length)d\r\nTransfer-Encoding: identity, chunked\r\n",
    b"Content-Length: %(length)d\r\nTransfer-Encoding: chunked, identity\r\n",
    b"Content-Length: %(length)d\r\nX: y\r\n Transfer-Encoding: chunked\r\n",
    b"Content-Length: %(length)d\r\nX: y\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: %(length)d\r\nTransfer_Encoding: chunked\r\n",
    b"Content-Length: +%(length)d\r\n",
    b"Content-Length: 4, %(length)d\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
    b"Content-Length: %(length)d\r\nConnection: Content-Length\r\n",
    b"Content-Length: %(length)d\r\nConnection: close, Transfer-Encoding, Client-Cert\r\n",
]


async def _nothing_can_be_smuggled(site: Installation, key: dict[str, str]) -> None:
    """What a request hides in its body is nobody's request."""
    bodies = [
        b"0\r\n\r\n" + SMUGGLED + b"\r\n",
        b"0\r\n\r\n" + SMUGGLED + b"X: ",
        b"0;a=b\r\nX: y\r\n\r\n" + SMUGGLED + b"\r\n",
        b"2\r\n{}\r\n0\n\n" + SMUGGLED + b"\r\n",
    ]
    head = b"POST /api/v1/clients/nobody/metrics HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: application/json\r\n"
    async with site.client() as http:
        for framing, body in itertools.product(FRAMINGS, bodies):
            # What follows a complete body is a request that the client itself sends: it has no
            # right to, and so is not part of the attack.
            attack = head + framing % {b"length": len(body)} + b"\r\n" + body
            if _is_two_requests(framing, body):
                continue
            await site.raw(attack, patience=0.2)
            await _submit(http, key)
            answer = await http.get("/api/v1/clients/victim", headers=ADMIN)
            assert answer.status_code == 200, (framing, body, answer.text)


def _is_two_requests(framing: bytes, body: bytes) -> bool:
    """Whether the frame is unambiguous, so that the rest is an honest second request."""
    return framing.startswith(b"Transfer-Encoding: chunked\r\nUpgrade") and not body.endswith(
        b"X: "
    )


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
            while after_the_kill < 200:
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
        # An agent keeps what anybody but the manager refuses.
        assert "tobogganing-service" not in answer.headers
    assert acknowledged <= await in_time(settings)
