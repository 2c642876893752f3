"""Refused requests of registered entities are noted, and nothing else is."""

import asyncio
import dataclasses
import json
from typing import Any

import httpx
import pytest

from contract.evidence import Evidence, EvidenceReason
from gateway.settings import GatewaySettings
from tests.unit.gateway.conftest import Api

WRONG = "wrong" * 8
REASON = EvidenceReason


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return dataclasses.replace(settings, rate_limit_per_minute=3)


async def noted(api: Api) -> list[Evidence]:
    """Return what would be written now; refusals are noted after their response."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return api.evidence.take_due()


async def keys_of(api: Api) -> tuple[str, str]:
    await api.register("clusters", name="C", region="eu", datacenter="f", cluster_id="k")
    client = await api.register("clients", name="A", type="native", client_id="a")
    headend = await api.register("headends", name="H", cluster_id="k", headend_id="h")
    return client["api_key"], headend["api_key"]


async def post(api: Api, path: str, key: str, body: Any, type: str = "application/json") -> int:
    headers = {"authorization": f"Bearer {key}", "content-type": type}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response: httpx.Response = await api.http.post(
        f"/api/v1{path}", content=content, headers=headers
    )
    return response.status_code


async def test_a_wrong_key_of_a_registered_entity_is_noted_with_its_network(api: Api) -> None:
    key, _ = await keys_of(api)
    for id in ("a", "nobody"):
        assert await post(api, f"/clients/{id}/metrics", WRONG, {"metrics": {}}) == 401
    (found,) = await noted(api)
    assert (found.kind, found.id, found.reason) == ("client", "a", REASON.UNAUTHORIZED)
    assert found.network in ("127.0.0.0/24", "")
    assert found.writer.startswith("gateway-")
    assert WRONG not in str(found)
    assert key not in str(found)


async def test_a_headends_wrong_key_is_noted_where_it_requests_tokens(api: Api) -> None:
    await keys_of(api)
    for kind, id in (("headend", "h"), ("headend", "unknown")):
        body = {"node_type": kind, "node_id": id, "api_key": WRONG}
        assert await post(api, "/auth/token", "", body) == 401
    assert await post(api, "/headends/h/metrics", WRONG, {"metrics": {}}) == 401
    (found,) = await noted(api)
    assert (found.kind, found.id, found.count) == ("headend", "h", 2)


async def test_a_removed_entity_has_no_evidence(api: Api) -> None:
    key, _ = await keys_of(api)
    admin = {"authorization": "Bearer admin"}
    assert (await api.http.delete("/api/v1/clients/a", headers=admin)).status_code == 200
    assert await post(api, "/clients/a/metrics", key, {"metrics": {}}) == 401
    assert await noted(api) == []


@pytest.mark.parametrize(
    ("status", "reason", "body", "type"),
    [
        (400, REASON.INVALID, {"metrics": {"bytes_sent": -1}}, "application/json"),
        (413, REASON.TOO_LARGE, b'{"x":"' + b"x" * 10**6 + b'"}', "application/json"),
        (415, REASON.UNSUPPORTED, b"{}", "text/plain"),
    ],
)
async def test_a_refused_body_is_noted(
    api: Api, status: int, reason: EvidenceReason, body: Any, type: str
) -> None:
    key, _ = await keys_of(api)
    assert await post(api, "/clients/a/metrics", key, body, type) == status
    (found,) = await noted(api)
    assert (found.id, found.reason, found.network) == ("a", reason, "")
    assert found.detail


async def test_too_many_submissions_are_noted_and_accepted_ones_are_not(api: Api) -> None:
    key, _ = await keys_of(api)
    for _ in range(3):
        assert await post(api, "/clients/a/metrics", key, {"metrics": {}}) == 200
    assert await noted(api) == []
    assert await post(api, "/clients/a/metrics", key, {"metrics": {}}) == 429
    (found,) = await noted(api)
    assert (found.reason, found.count) == (REASON.RATE_LIMITED, 1)


async def test_refused_items_of_a_batch_are_noted_for_registered_entities(api: Api) -> None:
    await keys_of(api)
    relay = await api.register("relays", name="R", scope=["a", "nobody"], relay_id="r")
    items = [
        {"kind": "client", "id": "a", "metrics": {"bytes_sent": -1}},
        {"kind": "client", "id": "nobody", "metrics": {}},
        {"kind": "headend", "id": "h", "metrics": {"cpu_usage": -1}},
        {"kind": "client", "id": "a", "metrics": {}},
    ]
    assert await post(api, "/metrics", relay["api_key"], items) == 200
    found = {each.id: each for each in await noted(api)}
    assert found.keys() == {"a", "h"}
    assert found["a"].reason is REASON.INVALID
    assert "relay r" in found["a"].detail
    assert found["h"].reason is REASON.OUT_OF_SCOPE, "a relay forges nothing beyond its scope"
