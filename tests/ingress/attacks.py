"""Attacks through the proxy of an ingress controller: paths, forged headers, and framing."""

import itertools
import time
from typing import Any

import httpx

from tests.ingress.installation import CLIENT, Installation
from tests.integration.gateways import ADMIN, bearer
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN
from tests.integration.test_audit_log import logged

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


async def no_spelling_reaches_another_path(site: Installation) -> None:
    """With both tokens at hand: neither own metrics nor administration."""
    for path, token in itertools.product(SPELLINGS, (METRICS_TOKEN, ADMIN_TOKEN)):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        answer = await site.raw(f"{head}Connection: close\r\n\r\n".encode())
        status = answer.split(b" ", 2)[1]
        assert status in (b"400", b"401", b"404"), (path, answer)
        assert b"tobogganing_" not in answer
        assert b"victim" not in answer


async def addresses_cannot_be_forged(site: Installation) -> None:
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


async def arrivals_cannot_be_forged(site: Installation, key: dict[str, str]) -> None:
    """A gateway that trusted these would refuse the submission, or those of others."""
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


async def nothing_can_be_smuggled(site: Installation, key: dict[str, str]) -> None:
    """A request that is hidden in a body is never processed."""
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
            await site.raw(attack, patience=0.1)
            await _submit(http, key)
            answer = await http.get("/api/v1/clients/victim", headers=ADMIN)
            assert answer.status_code == 200, (framing, body, answer.text)


def _is_two_requests(framing: bytes, body: bytes) -> bool:
    """Whether the frame is unambiguous, so that the rest is an honest second request."""
    return framing.startswith(b"Transfer-Encoding: chunked\r\nUpgrade") and not body.endswith(
        b"X: "
    )
