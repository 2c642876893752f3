"""A misspelt field of a registration is named in the response."""

import json
from typing import Any

import pytest

from gateway.body.json import MAX_IGNORED_LENGTH, MAX_IGNORED_NAMES
from tests.unit.gateway.conftest import Api

ADMIN = {"authorization": "Bearer admin"}
CLUSTER = {"name": "F", "cluster_id": "fra", "region": "eu", "datacenter": "d"}
REGISTRATIONS = {
    "clients/register": {"name": "A", "type": "native"},
    "clusters/register": {**CLUSTER, "cluster_id": "zrh"},
    "headends/register": {"name": "H", "cluster_id": "fra"},
    "relays/register": {"name": "R", "scope": "all"},
    "enrolments": {"name": "E", "kind": "client", "type": "native"},
}


async def post(api: Api, path: str, body: dict[str, Any], **headers: str) -> Any:
    answer = await api.http.post(f"/api/v1/{path}", json=body, headers=headers or ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", REGISTRATIONS)
async def test_unknown_fields_are_listed(api: Api, path: str) -> None:
    body = REGISTRATIONS[path]
    await post(api, "clusters/register", CLUSTER)
    assert "ignored" not in await post(api, path, body)
    if path == "clusters/register":
        body = {**body, "cluster_id": "ams"}
    unknown = {"nmae": "B", "cleint_id": {"a": [1]}}
    assert (await post(api, path, {**body, **unknown}))["ignored"] == ["cleint_id", "nmae"]


async def test_the_list_is_bounded(api: Api) -> None:
    unknown = {f"{n:03d}{'x' * 100}": n for n in range(100)}
    body = {**REGISTRATIONS["clients/register"], **unknown}
    ignored = (await post(api, "clients/register", body))["ignored"]
    assert len(ignored) == MAX_IGNORED_NAMES
    assert ignored == sorted(ignored)
    assert {len(name) for name in ignored} == {MAX_IGNORED_LENGTH}


async def test_an_agent_that_enrols_is_told_likewise(api: Api) -> None:
    token = (await post(api, "enrolments", REGISTRATIONS["enrolments"]))["token"]
    credential = {"authorization": f"Bearer {token}"}
    enrolled = await post(api, "enrol", {"name": "A", "nonec": "x" * 20}, **credential)
    assert enrolled["ignored"] == ["nonec"]
    assert "ignored" not in await post(api, "enrol", {"name": "A"}, **credential)


async def test_each_line_of_many_has_its_own(api: Api) -> None:
    line = {"kind": "client", "name": "A", "type": "native"}
    lines = [{**line, "id": "a", "regoin": "eu"}, {**line, "id": "b"}]
    answer = await api.http.post(
        "/api/v1/registrations",
        content="\n".join(map(json.dumps, lines)),
        headers={**ADMIN, "content-type": "application/x-ndjson"},
    )
    first, second = map(json.loads, answer.text.splitlines())
    assert (first["status"], first["ignored"]) == ("registered", ["regoin"])
    assert second["status"] == "registered"
    assert "ignored" not in second
