"""Registered entities: listing, removal, and rotation of API keys."""

import asyncio
import secrets
import time
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from contract.audit import AuditRecord, decode_audit
from contract.kinds import KINDS
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record, hash_api_key
from gateway.api import listing
from gateway.api.resource_types import RESOURCES
from gateway.api.resources import MAX_OLD_KEYS, as_removed
from gateway.produce.producer import RecordMetadata
from gateway.registry.writer import TOMBSTONE_DELAY_MS
from tests.unit.gateway.conftest import Api

ADMIN = {"Authorization": "Bearer admin"}


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def client(api: Api, id: str = "c-1", **body: Any) -> str:
    """Register a client and return its key."""
    answer = await api.register("clients", client_id=id, **({"name": "n", "type": "native"} | body))
    return str(answer["api_key"])


async def submit(api: Api, id: str, key: str) -> int:
    answer = await api.http.post(
        f"/api/v1/clients/{id}/metrics", headers=bearer(key), json={"metrics": {}}
    )
    return answer.status_code


async def rotate(api: Api, key: str, id: str = "c-1", **body: Any) -> Any:
    path = f"/api/v1/clients/{id}/rotate-key"
    return await api.http.post(path, headers=bearer(key), json=body or None)


def audited(api: Api) -> list[AuditRecord]:
    return [decode_audit(record.value) for record in api.audit.records]


@pytest.mark.parametrize("by_admin", [True, False])
async def test_without_an_overlap_the_old_key_is_invalid_at_once(api: Api, by_admin: bool) -> None:
    old = await client(api)
    answer = await rotate(api, "admin" if by_admin else old)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"client_id", "new_api_key"}
    new = answer.json()["new_api_key"]
    assert (await submit(api, "c-1", old), await submit(api, "c-1", new)) == (401, 200)


async def test_with_an_overlap_both_keys_are_valid_until_it_ends(api: Api) -> None:
    old = await client(api)
    new = (await rotate(api, old, overlap_seconds=60)).json()["new_api_key"]
    assert (await submit(api, "c-1", old), await submit(api, "c-1", new)) == (200, 200)
    shown = (await api.http.get("/api/v1/clients/c-1", headers=ADMIN)).json()
    assert len(shown["old_keys_valid_until"]) == 1

    record = api.registry.get("client", "c-1")
    assert record is not None
    end = record.expiring_keys[hash_api_key(old)]
    assert hash_api_key(old) in record.valid_keys(end - 1)
    assert record.valid_keys(end) == [hash_api_key(new)]


async def test_a_rotation_without_an_overlap_invalidates_all_old_keys(api: Api) -> None:
    first = await client(api)
    second = (await rotate(api, first, overlap_seconds=600)).json()["new_api_key"]
    third = (await rotate(api, second)).json()["new_api_key"]
    statuses = [await submit(api, "c-1", key) for key in (first, second, third)]
    assert statuses == [401, 401, 200]


async def test_the_number_of_old_keys_is_limited(api: Api) -> None:
    key = await client(api)
    for _ in range(MAX_OLD_KEYS):
        key = (await rotate(api, key, overlap_seconds=600)).json()["new_api_key"]
    assert (await rotate(api, key, overlap_seconds=600)).status_code == 409
    assert (await rotate(api, key)).status_code == 200


async def test_a_node_cannot_rotate_the_key_of_another_node(api: Api) -> None:
    await client(api)
    other = await client(api, "c-2")
    for credential in (other, "x", ""):
        assert (await rotate(api, credential)).status_code == 401
    assert (await rotate(api, "admin", "nobody")).status_code == 404
    assert (await rotate(api, other, "nobody")).status_code == 401


async def test_a_key_replaced_at_another_gateway_cannot_rotate(api: Api) -> None:
    """This gateway has not read yet that the key was replaced at another one."""
    stolen = await client(api)
    base = api.registry.get("client", "c-1")
    assert base is not None
    rotated = msgspec.structs.replace(base, revision=2, api_keys=[hash_api_key("new")])
    api.topic.at_once = False
    await api.topic.send("registry", encode_record(rotated), partition=0, key=base.key)
    assert api.registry.get("client", "c-1") == base
    assert (await rotate(api, stolen)).status_code == 401
    assert api.registry.get("client", "c-1") == rotated


@pytest.mark.parametrize(
    "body", [{"overlap_seconds": -1}, {"overlap_seconds": 1e9}, {"overlap_seconds": "1"}, []]
)
async def test_invalid_rotation_bodies_are_refused(api: Api, body: Any) -> None:
    key = await client(api)
    answer = await api.http.post("/api/v1/clients/c-1/rotate-key", headers=bearer(key), json=body)
    assert answer.status_code == 400
    assert await submit(api, "c-1", key) == 200


async def test_a_rotation_without_an_overlap_revokes_tokens(api: Api) -> None:
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="k-1")
    headend = await api.register("headends", name="h", cluster_id="k-1", headend_id="h-1")

    async def token(key: str) -> str:
        body = {"node_id": "h-1", "node_type": "headend", "api_key": key}
        answer = await api.http.post("/api/v1/auth/token", json=body)
        return str(answer.json()["access_token"])

    async def submitted(credential: str) -> int:
        answer = await api.http.post(
            "/api/v1/headends/h-1/metrics", headers=bearer(credential), json={"metrics": {}}
        )
        return answer.status_code

    first = await token(headend["api_key"])
    path = "/api/v1/headends/h-1/rotate-key"
    by_token = await api.http.post(path, headers=bearer(first), json={"overlap_seconds": 60})
    assert by_token.status_code == 401, "a token would turn into a permanent key"
    own = bearer(headend["api_key"])
    answer = await api.http.post(path, headers=own, json={"overlap_seconds": 60})
    assert answer.status_code == 200
    assert await submitted(first) == 200
    answer = await api.http.post(path, headers=ADMIN)
    assert await submitted(first) == 401
    assert await submitted(await token(answer.json()["new_api_key"])) == 200
    assert api.sample("tobogganing_manager_jwt_tokens_revoked_total", reason="key") == 1


async def test_a_removal_is_appended_to_the_submissions_topic(api: Api) -> None:
    key = await client(api)
    record = api.registry.get("client", "c-1")
    assert record is not None
    answer = await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    assert answer.status_code == 200
    assert answer.json().keys() == {"client_id", "receipt"}
    partition, offset, index, _ = map(int, answer.json()["receipt"].split("-"))
    frames = [frame for number, frame in api.submissions.frames if number == partition]
    removal = frames[offset].submissions[index]
    assert (removal.kind, removal.id, removal.removed) == ("client", "c-1", True)
    assert removal.incarnation == record.incarnation

    assert await submit(api, "c-1", key) == 401
    assert (await api.http.get("/api/v1/clients/c-1", headers=ADMIN)).status_code == 404
    assert (await rotate(api, "admin")).status_code == 404
    kept = api.registry.state.current(record.key)
    assert kept is not None
    assert not kept.api_keys
    assert kept.expires_at_ms is not None
    assert abs(kept.expires_at_ms - TOMBSTONE_DELAY_MS - time.time() * 1000) < 60_000


async def test_a_removal_can_be_repeated(api: Api) -> None:
    await client(api)
    api.submissions.fails = True
    answer = await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    assert answer.status_code == 503
    assert "send the request again" in answer.json()["error"]
    assert api.registry.get("client", "c-1") is None
    api.submissions.fails = False
    answer = await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    assert answer.status_code == 200
    assert answer.json()["receipt"]
    assert (await api.http.delete("/api/v1/clients/never", headers=ADMIN)).status_code == 404


async def test_a_second_registration_has_another_incarnation(api: Api) -> None:
    old = await client(api)
    first = api.registry.get("client", "c-1")
    await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    new = await client(api)
    second = api.registry.get("client", "c-1")
    assert first is not None
    assert second is not None
    assert first.incarnation is not None
    assert second.incarnation is not None
    assert second.incarnation > first.incarnation
    assert (await submit(api, "c-1", old), await submit(api, "c-1", new)) == (401, 200)


@pytest.mark.parametrize("then", ["rotated", "removed", "registered again"])
async def test_what_others_change_at_the_same_time_is_removed(api: Api, then: str) -> None:
    await client(api)
    write_down = api.audit.send

    async def another_is_faster(*args: Any, **options: Any) -> RecordMetadata:
        record = api.registry.get("client", "c-1")
        assert record is not None
        others = [replace(record, revision=2, api_keys=["00"])]
        if then != "rotated":
            others = [replace(as_removed(record, 2**50), revision=2)]
        if then == "registered again":
            others.append(replace(record, revision=3, incarnation=(record.incarnation or 0) + 1))
        for other in others:
            await api.topic.send("registry", encode_record(other), partition=0, key=other.key)
        return await write_down(*args, **options)

    api.audit.send = another_is_faster  # type: ignore[method-assign]
    answer = await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    shown = await api.http.get("/api/v1/clients/c-1", headers=ADMIN)
    assert shown.status_code == (200 if then == "registered again" else 404)


async def test_a_cluster_can_be_removed_only_after_its_headends(api: Api) -> None:
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="k-1")
    await api.register("headends", name="h", cluster_id="k-1", headend_id="h-1")
    answer = await api.http.delete("/api/v1/clusters/k-1", headers=ADMIN)
    assert answer.status_code == 409
    shown = await api.http.get("/api/v1/clusters/k-1", headers=ADMIN)
    assert shown.json() == {
        "cluster_id": "k-1",
        "name": "k",
        "region": "eu",
        "datacenter": "d",
        "headends": 1,
    }
    assert (await api.http.delete("/api/v1/headends/h-1", headers=ADMIN)).status_code == 200
    answer = await api.http.delete("/api/v1/clusters/k-1", headers=ADMIN)
    assert (answer.status_code, answer.json()) == (200, {"cluster_id": "k-1"})
    refused = await api.http.post(
        "/api/v1/headends/register", headers=ADMIN, json={"name": "h", "cluster_id": "k-1"}
    )
    assert refused.status_code == 400


async def test_no_headend_is_registered_in_a_cluster_removed_at_another_gateway(api: Api) -> None:
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="k-1")
    cluster = api.registry.get("cluster", "k-1")
    assert cluster is not None
    api.topic.at_once = False
    gone = replace(as_removed(cluster, 2**50), revision=2)
    await api.topic.send("registry", encode_record(gone), partition=0, key=gone.key)
    written = len(api.topic.records)
    body = {"name": "h", "cluster_id": "k-1", "headend_id": "h-1"}
    registering = asyncio.create_task(
        api.http.post("/api/v1/headends/register", headers=ADMIN, json=body)
    )
    await api.topic.until(written + 1)
    api.topic.at_once = True
    api.topic.deliver(api.registry)
    answer = await registering
    assert answer.status_code == 409
    assert api.registry.get("headend", "h-1") is None
    assert api.registry.state.count_headends("k-1") == 0


async def test_a_cluster_with_a_headend_registered_during_its_removal_is_restored(api: Api) -> None:
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="k-1")
    headend = RegistryRecord(
        RECORD_VERSION, "headend", "h-1", 1, "h", {"cluster_id": "k-1"}, ["00"]
    )
    write_down = api.audit.send

    async def another_is_faster(*args: Any, **options: Any) -> RecordMetadata:
        await api.topic.send("registry", encode_record(headend), partition=0, key=headend.key)
        return await write_down(*args, **options)

    api.audit.send = another_is_faster  # type: ignore[method-assign]
    answer = await api.http.delete("/api/v1/clusters/k-1", headers=ADMIN)
    assert answer.status_code == 409
    shown = await api.http.get("/api/v1/clusters/k-1", headers=ADMIN)
    assert shown.json()["headends"] == 1


async def pages(api: Api, collection: str, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages of a listing."""
    found: list[list[dict[str, Any]]] = []
    following: str | None = ""
    while following is not None:
        query["after"] = following
        answer = await api.http.get(f"/api/v1/{collection}", headers=ADMIN, params=query)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()[collection])
        following = answer.json()["next"]
    return found


@pytest.mark.parametrize("slice_seconds", [-1, 60])
async def test_pages_contain_each_entity_once_ordered_by_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, slice_seconds: float
) -> None:
    monkeypatch.setattr(listing, "SLICE_SECONDS", slice_seconds)
    ids = ["a", "B", "a.b", "a-b", "z9", "0", "a0", "register"]
    for number, id in enumerate(ids):
        await client(api, id, name=f"Client {number}", type=["native", "docker"][number % 2])
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="a")
    for limit in (1, 3, 8, 9):
        found = await pages(api, "clients", limit=limit)
        assert [one["client_id"] for page in found for one in page] == sorted(ids)
        assert all(len(page) == limit for page in found[:-1])
        assert len(found) <= -(-len(ids) // limit)
    dockers = [
        one["client_id"] for page in await pages(api, "clients", type="docker") for one in page
    ]
    assert dockers == sorted(ids[1::2])
    (page,) = await pages(api, "clients", name="CLIENT 3", type="client_docker")
    assert page == [{"client_id": "a-b", "name": "Client 3", "type": "docker"}]
    assert await pages(api, "clients", name="nobody") == [[]]
    total = (await api.http.get("/api/v1/clients", headers=ADMIN)).json()["total"]
    assert total == len(ids)


async def test_a_page_with_long_scopes_ends_early(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGE_SIZE", 100)
    for id in ("a", "b", "c"):
        scope = [f"{id}-{number}" for number in range(25)]
        await api.register("relays", name=id, relay_id=id, scope=scope)
    found = await pages(api, "relays", limit=1000)
    assert [[one["relay_id"] for one in page] for page in found] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=٣", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=0000000011000", "limit"),
        ("limit=000000001" + "0" * 5000, "limit"),
        ("region=eu", "region"),
        ("key=1", "key"),
    ],
)
async def test_invalid_queries_are_refused(api: Api, query: str, field: str) -> None:
    answer = await api.http.get(f"/api/v1/clients?{query}", headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["field"] == field


PATHS = [
    ("GET", "/api/v1/clients"),
    ("GET", "/api/v1/clients/c-1"),
    ("DELETE", "/api/v1/clients/c-1"),
    ("GET", "/api/v1/headends"),
    ("GET", "/api/v1/clusters"),
    ("DELETE", "/api/v1/clusters/k"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_resource_endpoints_require_the_admin_token(api: Api, method: str, path: str) -> None:
    key = await client(api)
    for headers in ({}, bearer(key), bearer("x")):
        answer = await api.http.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert api.registry.get("client", "c-1") is not None


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_an_unreadable_registry_is_a_503(api: Api, method: str, path: str) -> None:
    await client(api)
    api.registry_is_away = True
    answer = await api.http.request(method, path, headers=ADMIN)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1


async def test_no_response_or_audit_record_contains_a_secret(api: Api) -> None:
    key = await client(api)
    new = (await rotate(api, key, overlap_seconds=9)).json()["new_api_key"]
    texts = [
        (await api.http.get(path, headers=ADMIN)).text
        for path in ("/api/v1/clients", "/api/v1/clients/c-1")
    ]
    texts += [str(record.value) for record in api.audit.records]
    for secret in (key, new, hash_api_key(key), hash_api_key(new), "Bearer"):
        assert all(secret not in text for text in texts)


async def test_every_change_is_audited_before_it_is_made(api: Api) -> None:
    key = await client(api)
    await rotate(api, key, overlap_seconds=9)
    await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    told = [(each.actor, each.action, each.target, each.outcome.value) for each in audited(api)]
    assert told == [
        ("admin", "register", "client:c-1", "allowed"),
        ("client:c-1", "rotate-key", "client:c-1", "allowed"),
        ("admin", "remove", "client:c-1", "allowed"),
    ]
    assert {each.address for each in audited(api)} == {"127.0.0.1"}


async def test_an_unconfirmed_audit_record_prevents_the_change(api: Api) -> None:
    key = await client(api)
    api.audit.loses = True
    before = len(api.topic.records)
    for answer in (
        await rotate(api, key),
        await api.http.delete("/api/v1/clients/c-1", headers=ADMIN),
        await api.http.post(
            "/api/v1/clients/register", headers=ADMIN, json={"name": "n", "type": "native"}
        ),
    ):
        assert answer.status_code == 503
    assert len(api.topic.records) == before
    assert await submit(api, "c-1", key) == 200


async def test_an_unconfirmed_change_gets_a_second_audit_record(api: Api) -> None:
    await client(api)
    api.submissions.fails = True
    answer = await api.http.delete("/api/v1/clients/c-1", headers=ADMIN)
    assert answer.status_code == 503
    await api.audit.until(3)
    assert [each.outcome.value for each in audited(api)] == ["allowed", "allowed", "unconfirmed"]


async def test_registrations_are_counted_by_type_and_result(api: Api) -> None:
    await client(api, type="client_mobile")
    body = {"name": "n", "type": "mobile", "client_id": "c-1"}
    await api.http.post("/api/v1/clients/register", headers=ADMIN, json=body)
    await api.register("clusters", name="k", region="eu", datacenter="d", cluster_id="k-1")
    await api.register("headends", name="h", cluster_id="k-1")
    api.topic.loses = True
    body["client_id"] = "c-2"
    await api.http.post("/api/v1/clients/register", headers=ADMIN, json=body)
    counted = {
        (type, result): api.sample(
            "tobogganing_manager_client_registrations_total", type=type, result=result
        )
        for type in ("mobile", "cluster", "headend")
        for result in ("success", "conflict", "unconfirmed")
    }
    assert {key for key, count in counted.items() if count == 1} == {
        ("mobile", "success"),
        ("mobile", "conflict"),
        ("mobile", "unconfirmed"),
        ("cluster", "success"),
        ("headend", "success"),
    }


async def test_a_refused_change_gets_a_second_audit_record(api: Api) -> None:
    await client(api)
    body = {"name": "n", "type": "native", "client_id": "c-1"}
    answer = await api.http.post("/api/v1/clients/register", headers=ADMIN, json=body)
    assert answer.status_code == 409
    first, second = audited(api)[-2:]
    assert (first.outcome.value, second.outcome.value) == ("allowed", "refused")
    assert first.request == second.request
    assert "already registered" in second.reason


def test_every_kind_has_a_collection() -> None:
    assert {each.kind for each in RESOURCES} >= KINDS.keys()


@pytest.mark.parametrize(
    "path",
    [
        "c-1%2F",
        "c-1/",
        "c-1%00",
        "c-1%0A",
        "c-1%2F..%2Fc-2",
        "%2E%2E/clients/c-1",
        "%63-1/rotate-key/",
        "c-1%20",
        "c%ef%bc%8d1",
        "%D0%A1-1",
        "c-1;a=b",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_manipulated_paths_match_no_route(api: Api, method: str, path: str) -> None:
    await client(api)
    await client(api, "c-2")
    answer = await api.http.request(method, f"/api/v1/clients/{path}", headers=ADMIN)
    assert answer.status_code in (404, 405)
    assert api.registry.state.count("client") == 2


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer admin"), ("authorization", "Bearer admin")],
        [("authorization", "Bearer x"), ("authorization", "Bearer admin")],
        [("authorization", "Bearer admin, Bearer admin")],
        [("authorization", "Bearer  x admin")],
        [("authorization", "admin")],
        [("proxy-authorization", "Bearer admin")],
        [("x-authorization", "Bearer admin")],
        [("authorization", "Bearer " + "admin" * 2000)],
        [("authorization", "Bearer ADMIN")],
    ],
)
async def test_manipulated_headers_bypass_no_check(
    api: Api, headers: list[tuple[str, str]]
) -> None:
    await client(api)
    answer = await api.http.delete("/api/v1/clients/c-1", headers=headers)
    assert answer.status_code == 401
    assert api.registry.get("client", "c-1") is not None


async def test_a_key_of_its_own_making_can_be_sent_again(api: Api) -> None:
    """Even if responses are lost, the agent has a valid key."""
    old, new = await client(api), secrets.token_urlsafe(32)
    for credential in (old, old, new):  # two responses were lost, and the old key has ended
        answer = await rotate(api, credential, overlap_seconds=60, new_api_key=new)
        assert answer.status_code == 200
        assert answer.json()["new_api_key"] == new
    record = api.registry.get("client", "c-1")
    assert record is not None
    assert record.revision == 2, "a repetition changes nothing"
    assert len(record.expiring_keys) == 1
    back = await rotate(api, new, overlap_seconds=60, new_api_key=old)
    assert back.json()["new_api_key"] == old
    record = api.registry.get("client", "c-1")
    assert record is not None
    assert not {*record.api_keys} & record.expiring_keys.keys()


async def test_a_key_of_its_own_making_replaces_none_that_an_operator_gave(api: Api) -> None:
    old = await client(api)
    given = (await rotate(api, "admin", overlap_seconds=60)).json()["new_api_key"]
    answer = await rotate(api, old, overlap_seconds=60, new_api_key=secrets.token_urlsafe(32))
    assert answer.status_code == 409
    record = api.registry.get("client", "c-1")
    assert record is not None
    assert record.api_keys == [hash_api_key(given)]
    assert (await rotate(api, given, new_api_key=secrets.token_urlsafe(32))).status_code == 200


@pytest.mark.parametrize("key", ["short", "x" * 42, "x" * 129, "x" * 42 + " ", "x" * 43 + "\n"])
async def test_a_key_that_is_too_short_or_no_base64url_is_refused(api: Api, key: str) -> None:
    old = await client(api)
    answer = await rotate(api, old, new_api_key=key)
    assert answer.status_code == 400
    assert answer.json()["field"] == "new_api_key"


async def test_a_relay_makes_no_key_itself(api: Api) -> None:
    relay = await api.register("relays", name="r", scope="all", relay_id="r")
    answer = await api.http.post(
        "/api/v1/relays/r/rotate-key",
        headers=bearer(relay["api_key"]),
        json={"new_api_key": secrets.token_urlsafe(32)},
    )
    assert answer.status_code == 400
    assert answer.json()["field"] == "new_api_key"
