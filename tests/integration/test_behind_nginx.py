"""A gateway behind nginx, which shares the connections that it keeps among all who come.

One of them is hostile: no request of another, and no answer to one, may ever be touched.
"""

import asyncio
import contextlib
import itertools
import json
from pathlib import Path

import httpx
import pytest

from service.settings import KafkaSettings
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.test_gateway import gateway, registered
from tests.long import IS_LONG
from tests.nginx import nginx

TRIES = 2_000 if IS_LONG else 200
"""In all, over the ways in which nginx is set up."""
VICTIM = "victim"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}

SMUGGLED = (
    # The beginning of a request, which takes the next one's header for its own.
    f"DELETE /api/v1/clients/{VICTIM} HTTP/1.1\r\nHost: x\r\nX: ".encode(),
    # A whole one, whose answer would be taken for the next one's.
    b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n",
)
PADDING = b"Y: " + 20_000 * b"y" + b"\r\nX: "
"""nginx sends what it could not keep in memory in packets of its own, after the header."""
HEAD = (
    b"POST /api/v1/clients/nobody/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
)
OFFERS = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"",
)


def hostile() -> list[tuple[bytes, bytes]]:
    """Requests in two parts, with a pause between them."""
    requests = []
    bodies = [*SMUGGLED, *(smuggled.replace(b"X: ", PADDING) for smuggled in SMUGGLED)]
    for offer, body in itertools.product(OFFERS, bodies):
        with_length = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(body)
        requests.append((with_length, body))
        requests.append((with_length + body, b""))
        requests.append((with_length + body[:7], body[7:]))
        chunked = HEAD + offer + b"Transfer-Encoding: chunked\r\n\r\n"
        requests.append((chunked, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)))
        requests.append((chunked, b"%x\r\n%b" % (len(body) + 9, body)))
        trailer = b"0\r\nAuthorization: Bearer %b\r\n%b" % (ADMIN_TOKEN.encode(), body)
        requests.append((chunked, trailer))
        requests.append((HEAD + b"Content-Length: 0\r\n" + offer + b"\r\n", body))
    return requests


async def attack(port: int, first: bytes, second: bytes) -> None:
    """Send a request in two parts, and take whatever comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(0.005)
        writer.write(second)
        async with asyncio.timeout(0.1):
            await reader.readuntil(b"}")
    writer.transport.abort()


@pytest.mark.parametrize("buffering", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("connection", ['"upgrade"', "$connection_upgrade"], ids=["always", "map"])
async def test_a_stranger_touches_nobody_elses_requests(
    kafka_settings: KafkaSettings,
    tmp_path: Path,
    signing_keys: str,
    connection: str,
    buffering: bool,
) -> None:
    async with (
        gateway(kafka_settings, tmp_path, signing_keys) as service,
        nginx(tmp_path, service.port, connection, buffering=buffering) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        await service.ready()
        key = await registered(service, VICTIM)
        attacks = itertools.cycle(hostile())
        sent = 0
        for _ in range(TRIES // 4):
            attacking = asyncio.create_task(attack(port, *next(attacks)))
            while not attacking.done():
                sent += 1
                await _submit(http, key, sent)
                await _read(http)
            await attacking
            sent += 1
            await _submit(http, key, sent)
            await _read(http)
        assert await _counted(service) == sent


async def _submit(http: httpx.AsyncClient, key: dict[str, str], number: int) -> None:
    body = {"metrics": {"bytes_sent": number}}
    answer = await http.post(f"/api/v1/clients/{VICTIM}/metrics", json=body, headers=key)
    assert answer.status_code == 200, answer.text
    assert "receipt" in answer.json(), answer.text


async def _read(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/api/v1/clients/{VICTIM}", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text)["client_id"] == VICTIM, answer.text


async def _counted(service: Service) -> int:
    """How many submissions the gateway has taken."""
    start = 'submissions_total{kind="client",result="received"} '
    (line,) = [each for each in (await service.scrape()).text.splitlines() if start in each]
    return int(float(line.split()[-1]))
