"""A gateway behind proxies that share their upstream connections among all clients.

One client is hostile. It must not affect requests of other clients or the responses to them.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from service.config.settings import KafkaSettings
from tests.haproxy import haproxy
from tests.integration.gateways import gateway, registered
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.long import IS_LONG
from tests.nginx import nginx

Proxy = Callable[[Path, int], AbstractAsyncContextManager[int]]

PROXIES: dict[str, Proxy] = {
    "nginx": lambda folder, port: nginx(folder, port, '"upgrade"', buffering=True),
    "nginx-unbuffered": lambda folder, port: nginx(folder, port, '"upgrade"', buffering=False),
    "nginx-map": lambda folder, port: nginx(folder, port, "$connection_upgrade", buffering=True),
    "haproxy": haproxy,
}
TRIES = (2_000 if IS_LONG else 200) // len(PROXIES)
VICTIM = "victim"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}

BEGUN = f"DELETE /api/v1/clients/{VICTIM} HTTP/1.1\r\nHost: x\r\n".encode()
"""The head of a request whose last header would absorb the first line of the next request."""
WHOLE = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"
"""The response to a complete request, which could be taken for the response to the next one."""
PADDING = b"Y: " + 20_000 * b"y" + b"\r\n"
"""nginx stores a body of more than 16 KiB in a file, and sends it separately from the head."""
SMUGGLED = [
    BEGUN + PADDING + b"X: ",
    WHOLE + PADDING + b"\r\n",
    BEGUN + b"X: ",
    WHOLE + b"\r\n",
]
HEAD = (
    b"POST /api/v1/clients/nobody/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
)
OFFERS = [
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"",
]


def attacks() -> list[tuple[bytes, bytes]]:
    """Requests in two parts with a pause between them, the most dangerous ones first."""
    requests = []
    for offer, body in itertools.product(OFFERS, SMUGGLED):
        with_length = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(body)
        requests.append((with_length + body, b""))
        requests.append((with_length, body))
        chunked = HEAD + offer + b"Transfer-Encoding: chunked\r\n\r\n"
        requests.append((chunked, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)))
        requests.append((chunked, b"%x\r\n%b" % (len(body) + 9, body)))
        trailer = b"0\r\nAuthorization: Bearer %b\r\n%b" % (ADMIN_TOKEN.encode(), body)
        requests.append((chunked, trailer))
        requests.append((HEAD + b"Content-Length: 0\r\n" + offer + b"\r\n", body))
    return requests


async def attack(port: int, first: bytes, second: bytes) -> None:
    """Send a request in two parts, and wait for a response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        writer.write(first)
        await writer.drain()
        if second:
            await asyncio.sleep(0.005)
            writer.write(second)
        async with asyncio.timeout(0.1):
            await reader.readuntil(b"}")
    writer.transport.abort()


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_hostile_client_does_not_affect_requests_of_others(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, proxy: str
) -> None:
    async with (
        gateway(kafka_settings, tmp_path, signing_keys) as service,
        PROXIES[proxy](tmp_path, service.port) as port,
        # One connection, and so one upstream connection: it receives what the attacker left.
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        await service.wait_until_ready()
        key = await registered(service, VICTIM)
        for number, parts in zip(range(TRIES), itertools.cycle(attacks())):
            await attack(port, *parts)
            await _read(http)
            await _submit(http, key, number)
        assert await _received(service) == TRIES


async def _submit(http: httpx.AsyncClient, key: dict[str, str], number: int) -> None:
    body = {"metrics": {"bytes_sent": number}}
    answer = await http.post(f"/api/v1/clients/{VICTIM}/metrics", json=body, headers=key)
    assert answer.status_code == 200, answer.text
    assert "receipt" in answer.json(), answer.text


async def _read(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/api/v1/clients/{VICTIM}", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text)["client_id"] == VICTIM, answer.text


async def _received(service: Service) -> int:
    """Return the number of submissions that the gateway has received."""
    start = 'submissions_total{kind="client",result="received"} '
    (line,) = [each for each in (await service.scrape()).text.splitlines() if start in each]
    return int(float(line.split()[-1]))
