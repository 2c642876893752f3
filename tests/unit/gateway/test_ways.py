"""Both ways into the gateway are equal: as an ASGI application, and through a socket.

Each request is sent both ways to a gateway of its own. Response, counters and frames are the same.
"""

import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from contract.frame import Submission
from gateway.ingest.fast_path import FastPathSubmissions
from gateway.settings import GatewaySettings
from tests.unit.gateway.conftest import WAYS, Api, InMemoryTopic, running_api

PATH = "/api/v1/clients/c-1/metrics"
HEADEND_PATH = "/api/v1/headends/h-1/metrics"
BODY = b'{"metrics":{"bytes_sent":1}}'
JSON = ("Content-Type", "application/json")
KEY, TOKEN, RELAY_KEY = "<key>", "<token>", "<relay key>"
"""Replaced by the credentials of each gateway."""

Headers = list[tuple[str, str]]


def bearer(credential: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {credential}")


def samples(*timestamps: float) -> bytes:
    values = [{"timestamp": each, "metrics": {"bytes_sent": 1}} for each in timestamps]
    return json.dumps({"samples": values}).encode()


BODIES = [
    BODY,
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"metrics":{}}',
    b'{"metrics":{},"timestamp":5}',
    b'{"metrics":{},"timestamp":9e99}',
    b'{"metrics":{},"timestamp":"5"}',
    b'{"metrics":{"bytes_sent":1.5,"zulu":1,"alpha":2}}',
    b'{"metrics":{"bytes_sent":1,"bytes_sent":2}}',
    b'{"metrics":{"bytes_sent":-1}}',
    b'{"metrics":{"bytes_sent":1e999}}',
    b'{"metrics":{"bytes_sent":"1"}}',
    b'{"metrics":{"bytes_sent":null}}',
    b'{"metrics":{"bytes_sent":18446744073709551616}}',
    b'{"headless":true,"metrics":{"bytes_received":7}}',
    b'{"headless":"true","metrics":{}}',
    b'{"other":{"a":[1,2]},"metrics":{}}',
    b'\xef\xbb\xbf{"metrics":{}}',
    b'{"metrics":{"\xff":1}}',
    b'  {"metrics" : { "bytes_sent" : 3 } }\r\n',
    b'{"metrics":{}}'.ljust(65_536),
    b'{"metrics":{}}'.ljust(65_537),
    samples(1, 2),
    samples(),
    samples(2, 1),
    samples(1, 2, 3, 4),
    b'{"samples":[{"metrics":{}}]}',
    b'{"samples":[],"metrics":{}}',
]
CREDENTIALS: list[Headers] = [
    [],
    [bearer("x")],
    [bearer("")],
    [bearer(TOKEN)],
    [bearer(RELAY_KEY)],
    [bearer("admin")],
    [("Authorization", f"Basic {KEY}")],
    [("Authorization", f"bearer {KEY}")],
    [("Authorization", f"Bearer  {KEY}")],
    [("authorization", f"Bearer {KEY}")],
    [bearer(KEY), bearer(KEY)],
    [bearer(KEY), bearer("x")],
    [bearer("x" * 5000)],
]
TYPES: list[Headers] = [
    [],
    [("Content-Type", "")],
    [("Content-Type", "text/json")],
    [("Content-Type", "Application/JSON")],
    [("Content-Type", "application/json; charset=UTF-8")],
    [("Content-Type", "application/json; charset=latin-1")],
    [JSON, JSON],
    [JSON, ("Content-Type", "text/plain")],
    [JSON, ("Content-Encoding", "identity")],
    [JSON, ("Content-Encoding", "br")],
    [JSON, ("Content-Encoding", "gzip")],
    [JSON, ("Accept", "text/html")],
    [JSON, ("X-Forwarded-For", "10.0.0.1")],
]
PATHS = [  # not encoded: httpx decodes a path for ASGI, the server does not
    PATH,
    HEADEND_PATH,
    f"{PATH}/",
    f"{PATH}?a=b",
    "/api/v1/clients//metrics",
    "/api/v1/clients/nobody/metrics",
    "/api/v1/clients/-x/metrics",
    f"/api/v1/clients/{'x' * 129}/metrics",
    "/api/v1/headends/c-1/metrics",
    "/api/v1/clusters/k-1/metrics",
    "/api/v2/clients/c-1/metrics",
    "//api/v1/clients/c-1/metrics",
]
REQUESTS: list[tuple[str, str, Headers, bytes]] = [
    *(("POST", PATH, [bearer(KEY), JSON], body) for body in BODIES),
    *(("POST", HEADEND_PATH, [bearer(TOKEN), JSON], body) for body in BODIES),
    *(("POST", PATH, [*headers, JSON], BODY) for headers in CREDENTIALS),
    *(("POST", HEADEND_PATH, [*headers, JSON], BODY) for headers in CREDENTIALS),
    *(("POST", PATH, [bearer(KEY), *headers], BODY) for headers in TYPES),
    *(("POST", path, [bearer(KEY), JSON], BODY) for path in PATHS),
    *((method, PATH, [bearer(KEY)], b"") for method in ("GET", "PUT", "DELETE", "PATCH")),
    ("POST", PATH, [bearer(KEY), JSON, ("Content-Encoding", "gzip")], gzip.compress(BODY)),
    ("POST", PATH, [bearer("x"), ("Content-Type", "text/plain")], b"[" * 70_000),
    ("POST", "/api/v1/metrics", [bearer(RELAY_KEY), JSON], b'[{"kind":"client","id":"c-1"}]'),
]


@contextlib.asynccontextmanager
async def gateway(settings: GatewaySettings, folder: Path, way: str) -> AsyncIterator[Api]:
    folder.mkdir()  # noqa: ASYNC240
    async with running_api(settings, InMemoryTopic(), folder, way) as api:
        await api.register("clusters", name="C", region="eu", datacenter="f", cluster_id="k-1")
        yield api


async def credentials(api: Api) -> dict[str, str]:
    """Register a client, a headend and a relay; return what stands for their credentials."""
    client = await api.register("clients", name="Laptop", type="docker", client_id="c-1")
    headend = await api.register("headends", name="H", cluster_id="k-1", headend_id="h-1")
    relay = await api.register("relays", name="R", scope="all")
    login = {"node_id": "h-1", "node_type": "headend", "api_key": headend["api_key"]}
    answer = await api.http.post("/api/v1/auth/token", json=login)
    token = answer.json()["access_token"]
    return {KEY: client["api_key"], TOKEN: token, RELAY_KEY: relay["api_key"]}


def filled(headers: Headers, secrets: dict[str, str]) -> Headers:
    text = re.compile("|".join(map(re.escape, secrets)))
    return [(name, text.sub(lambda found: secrets[found[0]], value)) for name, value in headers]


def shown(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """Return a response without append times, and without the headers of the server itself."""
    headers = dict(answer.headers)
    for name in ("date", "server", "connection"):
        headers.pop(name, None)
    return answer.status_code, headers, re.sub(r"(\d+-\d+-\d+)-\d+", r"\1", answer.text)


def counted(api: Api) -> dict[str, float]:
    """Return all counters. Incarnations and times differ, and are left out."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for registry in (api.requests.registry, api.metrics.registry)
        for family in registry.collect()
        if family.type == "counter"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def framed(api: Api) -> list[list[Submission]]:
    return [
        [replace(submission, incarnation=0) for submission in frame.submissions]
        for _, frame in api.submissions.frames
    ]


async def test_every_request_has_the_same_response_and_effect(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    statuses = set()
    async with contextlib.AsyncExitStack() as stack:
        apis = [
            await stack.enter_async_context(gateway(settings, tmp_path / way, way)) for way in WAYS
        ]
        secrets = [await credentials(api) for api in apis]
        for method, path, headers, body in REQUESTS:
            seen: list[Any] = []
            for api, mine in zip(apis, secrets, strict=True):
                answer = await api.http.request(
                    method, path, headers=filled(headers, mine), content=body
                )
                seen.append((shown(answer), counted(api), framed(api)))
                statuses.add(answer.status_code)
            assert seen[0] == seen[1], (method, path, headers, body[:100])
    assert statuses >= {200, 400, 401, 404, 405, 413, 415, 503}


async def test_failures_of_kafka_have_the_same_responses(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    for fault in ("submissions", "registry"):
        seen = []
        for way in WAYS:
            async with gateway(settings, tmp_path / f"{fault}-{way}", way) as api:
                key = (await credentials(api))[KEY]
                api.submissions.fails = fault == "submissions"
                api.registry_is_away = fault == "registry"
                id = "nobody" if fault == "registry" else "c-1"
                path = f"/api/v1/clients/{id}/metrics"
                headers = dict([bearer(key), JSON])
                answer = await api.http.post(path, headers=headers, content=BODY)
                assert answer.status_code == 503
                seen.append((shown(answer), counted(api), framed(api)))
        assert seen[0] == seen[1], fault


async def test_only_a_socket_has_the_fast_path(
    settings: GatewaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the tests above would compare a way with itself."""
    fast = FastPathSubmissions.__call__
    accepted = []

    def watched(*arguments: Any) -> bool:
        taken = fast(*arguments)
        if taken:
            accepted.append(taken)
        return taken

    monkeypatch.setattr(FastPathSubmissions, "__call__", watched)
    for way, expected in (("asgi", []), ("socket", [True])):
        async with gateway(settings, tmp_path / way, way) as api:
            headers = dict([bearer((await credentials(api))[KEY]), JSON])
            answer = await api.http.post(PATH, headers=headers, content=BODY)
            assert answer.status_code == 200
        assert accepted == expected
