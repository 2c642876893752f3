"""Many registrations in one request, over a topic in memory."""

import gzip
import json
import secrets
from typing import Any

import httpx
import pytest

from contract.audit import decode_audit
from gateway.api.bulk_registration import MAX_LINES
from tests.unit.gateway.conftest import Api

CLUSTER = {"kind": "cluster", "id": "c", "name": "C", "region": "eu", "datacenter": "fra1"}
HEADEND = {"kind": "headend", "id": "h", "name": "H", "cluster_id": "c"}


def client(id: str, **more: Any) -> dict[str, Any]:
    return {"kind": "client", "id": id, "name": id, "type": "native", **more}


async def post(api: Api, content: bytes, **headers: str) -> httpx.Response:
    return await api.http.post(
        "/api/v1/registrations",
        content=content,
        headers={
            "authorization": "Bearer admin",
            "content-type": "application/x-ndjson",
            **headers,
        },
    )


async def register(api: Api, *lines: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await post(api, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_each_line_has_its_response_in_its_place(api: Api) -> None:
    api.quotas.limits["relay"] = 1
    results = await register(
        api,
        HEADEND,
        client("a"),
        CLUSTER,
        {"kind": "headend", "id": "lost", "name": "L", "cluster_id": "unknown"},
        client("b", type="tv"),
        {"kind": "relay", "id": "r", "name": "R"},
        client("-"),
        {"kind": "client", "id": "n"},
        client("a"),
        {"kind": "cluster", "id": "d", "name": "D", "region": "eu"},
        client("z", name=""),
    )
    assert [result["status"] for result in results] == [
        *("registered", "registered", "registered"),
        *("refused",) * 5,
        "exists",
        *("refused",) * 2,
    ]
    assert [result.get("field") for result in results[3:8]] == [
        *("cluster_id", "type", "kind", "id", "name"),
    ]
    assert "api_key" not in results[2], "a cluster has none"
    assert "api_key" not in results[8]
    submitted = await api.http.post(
        "/api/v1/clients/a/metrics",
        json={"metrics": {}},
        headers={"Authorization": f"Bearer {results[1]['api_key']}"},
    )
    assert submitted.status_code == 200
    headend = api.registry.get("headend", "h")
    assert headend is not None
    assert headend.attributes == {"cluster_id": "c", "region": "eu", "datacenter": "fra1"}


async def test_with_keys_of_its_own_a_request_can_be_sent_again(api: Api) -> None:
    lines = [client(f"c-{n}", api_key=secrets.token_urlsafe(32)) for n in range(3)]
    first = await register(api, *lines)
    records = len(api.topic.records)
    assert await register(api, *lines) == first
    assert len(api.topic.records) == records, "nothing was written"
    assert [result["api_key"] for result in first] == [line["api_key"] for line in lines]
    other = await register(api, client("c-1", api_key=secrets.token_urlsafe(32)))
    assert other == [{"status": "exists", "kind": "client", "id": "c-1"}]
    weak = await register(api, client("weak", api_key="x"))
    assert (weak[0]["status"], weak[0]["field"]) == ("refused", "api_key")


async def test_beyond_a_limit_the_rest_is_refused(api: Api) -> None:
    api.quotas.limits["client"] = 3
    await api.register("clients", name="x", type="native", client_id="x")
    results = await register(api, *(client(f"c-{n}") for n in range(5)))
    assert [result["status"] for result in results] == ["registered"] * 2 + ["refused"] * 3
    assert "MAX_CLIENTS" in results[2]["error"]
    assert api.registry.state.count("client") == 3
    assert not any(api.quotas._reserved.values())


async def test_one_audit_record_names_all(api: Api) -> None:
    await register(api, CLUSTER, client("a"), client("b"), HEADEND)
    written = [decode_audit(record.value or b"") for record in api.audit.records]
    assert [(each.action, each.target, each.details) for each in written] == [
        ("register-many", "registrations", {"cluster": "c"}),
        ("register-many", "registrations", {"client": "a b", "headend": "h"}),
    ]


async def test_what_kafka_does_not_confirm_is_unconfirmed(api: Api) -> None:
    api.topic.at_once = False
    results = await register(api, client("a"))
    assert [result["status"] for result in results] == ["unconfirmed"]
    assert "api_key" not in results[0]


async def test_the_body_is_lines_of_a_bounded_number(api: Api) -> None:
    line = json.dumps(client("a")).encode() + b"\n"
    assert (await post(api, line * (MAX_LINES + 1))).status_code == 413
    assert (await post(api, line, **{"content-type": "application/json"})).status_code == 415
    assert (await post(api, b"\n \n")).text == ""
    answer = await post(api, gzip.compress(line), **{"content-encoding": "gzip"})
    assert answer.json()["status"] == "registered"
    nothing = await post(api, b"{}\nnull\n[\n")
    assert [json.loads(each)["status"] for each in nothing.text.splitlines()] == ["refused"] * 3


@pytest.mark.parametrize("headers", [{"authorization": "Bearer x"}, {"authorization": ""}])
async def test_only_admin_may(api: Api, headers: dict[str, str]) -> None:
    assert (await post(api, b"", **headers)).status_code == 401
