"""The interface of enrolment, over a topic in memory; tests/integration has real gateways."""

from typing import Any

import httpx
import pytest

from contract.audit import decode_audit
from contract.enrolment import REPEAT_MS
from tests.unit.gateway.conftest import Api
from tests.unit.gateway.csrs import csr

NONCE = "0123456789abcdef"


async def create(api: Api, **body: Any) -> httpx.Response:
    return await api.http.post(
        "/api/v1/enrolments",
        json={"name": "site", "kind": "client", "type": "client_docker"} | body,
        headers={"Authorization": "Bearer admin"},
    )


async def token_of(api: Api, **body: Any) -> str:
    answer = await create(api, **body)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["token"]
    return token


async def enrol(api: Api, token: str, **body: Any) -> httpx.Response:
    return await api.http.post(
        "/api/v1/enrol",
        json={"name": "agent"} | body,
        headers={"Authorization": f"Bearer {token}"},
    )


async def show(api: Api, id: str) -> httpx.Response:
    return await api.http.get(f"/api/v1/enrolments/{id}", headers={"Authorization": "Bearer admin"})


async def test_an_agent_gets_what_a_registration_gives(api: Api) -> None:
    answer = await create(api, max_uses=3, id_prefix="fra-", enrolment_id="site")
    assert answer.status_code == 200
    assert answer.json()["enrolment_id"] == "site"
    token = answer.json()["token"]
    assert token.startswith("site~")
    enrolled = (await enrol(api, token, nonce=NONCE)).json()
    assert set(enrolled) == {"client_id", "api_key", "name", "type"}
    assert enrolled["client_id"].startswith("fra-")
    assert (enrolled["name"], enrolled["type"]) == ("agent", "docker")
    record = api.registry.get("client", enrolled["client_id"])
    assert record is not None
    submitted = await api.http.post(
        f"/api/v1/clients/{record.id}/metrics",
        json={"metrics": {}},
        headers={"Authorization": f"Bearer {enrolled['api_key']}"},
    )
    assert submitted.status_code == 200
    shown = (await show(api, "site")).json()
    assert shown.pop("last_used_at")
    assert shown == {
        "enrolment_id": "site",
        "name": "site",
        "id_prefix": "fra-",
        "kind": "client",
        "type": "docker",
        "state": "active",
        "uses": 1,
        "max_uses": 3,
    }
    assert api.sample("tobogganing_gateway_enrolments_total", result="registered") == 1
    assert api.sample("tobogganing_gateway_enrolment_uses_total") == 1
    values = b"".join(record.value or b"" for record in api.topic.records)
    assert token.encode() not in values
    assert token.split("~")[1].encode() not in values


async def test_a_headend_joins_its_cluster_and_gets_a_certificate(api: Api) -> None:
    await api.register("clusters", name="C", region="eu", datacenter="fra1", cluster_id="c")
    token = await token_of(api, kind="headend", type=None, cluster_id="c")
    enrolled = (await enrol(api, token, headend_id="h", csr=csr())).json()
    assert set(enrolled) == {
        *("headend_id", "api_key", "certificate", "ca_certificate", "expires_at"),
    }
    record = api.registry.get("headend", "h")
    assert record is not None
    assert record.attributes["region"] == "eu"
    assert record.attributes["cluster_id"] == "c"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": None}, "type"),
        ({"cluster_id": "c"}, "cluster_id"),
        ({"kind": "headend", "type": None}, "cluster_id"),
        ({"kind": "headend", "cluster_id": "unknown", "type": None}, "cluster_id"),
        ({"kind": "relay"}, "kind"),
        ({"type": "tv"}, "type"),
        ({"max_uses": 0}, "max_uses"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"id_prefix": "-"}, "id_prefix"),
        ({"name": ""}, "name"),
    ],
)
async def test_what_is_no_enrolment_is_refused(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await create(api, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field
    assert not api.topic.records[1:], "only the signing key is there"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "\n"}, "name"),
        ({"client_id": "other-1"}, "client_id"),
        ({"headend_id": "fra-1"}, "headend_id"),
        ({"nonce": "short"}, "nonce"),
        ({"csr": "none"}, "csr"),
    ],
)
async def test_an_agent_that_is_refused_costs_no_use(
    api: Api, body: dict[str, Any], field: str
) -> None:
    token = await token_of(api, id_prefix="fra-", enrolment_id="site")
    answer = await enrol(api, token, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field
    assert (await show(api, "site")).json()["uses"] == 0
    assert api.sample("tobogganing_gateway_enrolments_total", result="refused") == 1


async def test_an_id_that_is_taken_costs_no_use(api: Api) -> None:
    await api.register("clients", name="x", type="native", client_id="taken")
    token = await token_of(api, enrolment_id="site")
    assert (await enrol(api, token, client_id="taken", nonce=NONCE)).status_code == 409
    assert (await show(api, "site")).json()["uses"] == 0


async def test_a_use_more_than_there_are_is_refused(api: Api) -> None:
    token = await token_of(api, max_uses=1, enrolment_id="site")
    assert (await enrol(api, token)).status_code == 200
    answer = await enrol(api, token)
    assert answer.status_code == 403
    assert (await show(api, "site")).json()["state"] == "exhausted"
    assert api.sample("tobogganing_gateway_enrolments_total", result="exhausted") == 1


async def test_the_nonce_of_an_agent_is_good_once(api: Api) -> None:
    token = await token_of(api, max_uses=1)
    first = (await enrol(api, token, nonce=NONCE)).json()
    second = (await enrol(api, token, nonce=NONCE)).json()
    assert second["client_id"] == first["client_id"]
    assert second["api_key"] != first["api_key"]
    assert (await enrol(api, token, nonce=NONCE)).status_code == 409
    assert api.sample("tobogganing_gateway_enrolments_total", result="repeated") == 1


async def test_a_key_that_was_rotated_is_replaced_by_no_nonce(api: Api) -> None:
    token = await token_of(api)
    enrolled = (await enrol(api, token, nonce=NONCE)).json()
    rotated = await api.http.post(
        f"/api/v1/clients/{enrolled['client_id']}/rotate-key",
        headers={"Authorization": f"Bearer {enrolled['api_key']}"},
    )
    assert rotated.status_code == 200
    assert (await enrol(api, token, nonce=NONCE)).status_code == 409


async def test_after_the_end_only_repetitions_are_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await token_of(api, expires_in_seconds=60, enrolment_id="site")
    first = await enrol(api, token, nonce=NONCE)
    now = api.registry.time.earliest_ms() + 61_000
    monkeypatch.setattr(api.registry.time, "earliest_ms", lambda: now)
    assert (await enrol(api, token)).status_code == 401
    assert (await show(api, "site")).json()["state"] == "expired"
    again = await enrol(api, token, nonce=NONCE)
    assert again.json()["client_id"] == first.json()["client_id"]
    now += REPEAT_MS
    assert (await enrol(api, token, nonce=NONCE)).status_code == 401


async def test_who_revokes_ends_it(api: Api) -> None:
    token = await token_of(api, enrolment_id="site")
    headers = {"Authorization": "Bearer admin"}
    enrolled = (await enrol(api, token, nonce=NONCE)).json()
    answer = await api.http.delete("/api/v1/enrolments/site", headers=headers)
    assert answer.status_code == 200
    assert (await enrol(api, token, nonce=NONCE)).status_code == 401
    assert (await show(api, "site")).status_code == 404
    found = await api.http.get("/api/v1/clients?enrolment_id=site", headers=headers)
    assert [client["client_id"] for client in found.json()["clients"]] == [enrolled["client_id"]]
    listed = await api.http.get("/api/v1/enrolments", headers=headers)
    assert listed.json() == {"enrolments": [], "total": 0, "next": None}


async def test_what_is_registered_after_the_revocation_is_removed_again(api: Api) -> None:
    token = await token_of(api, enrolment_id="site")
    enrolment = api.registry.get("enrolment", "site")
    assert enrolment is not None
    send = api.topic.send

    async def revoking_send(topic: str, value: bytes | None, **rest: Any) -> Any:
        if value and b'"kind":"client"' in value and b'"removed"' not in value:
            api.topic.send = send  # type: ignore[method-assign]
            answer = await api.http.delete(
                "/api/v1/enrolments/site", headers={"Authorization": "Bearer admin"}
            )
            assert answer.status_code == 200
        return await send(topic, value, **rest)

    api.topic.send = revoking_send  # type: ignore[method-assign]
    answer = await enrol(api, token, client_id="late")
    assert answer.status_code == 409
    assert "removed" in answer.json()["error"]
    assert api.registry.get("client", "late") is None


async def test_only_admin_sees_and_makes_enrolments(api: Api) -> None:
    token = await token_of(api, enrolment_id="site")
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        for method, path in (
            ("GET", "/api/v1/enrolments"),
            ("POST", "/api/v1/enrolments"),
            ("GET", "/api/v1/enrolments/site"),
            ("DELETE", "/api/v1/enrolments/site"),
        ):
            answer = await api.http.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
    for wrong in ("admin", "site~x", token + "x", token.split("~")[1]):
        assert (await enrol(api, wrong)).status_code == 401
    assert api.sample("tobogganing_manager_auth_attempts_total", type="enrolment", result="failure")


async def test_the_audit_says_with_which_enrolment_who_came(api: Api) -> None:
    token = await token_of(api, enrolment_id="site")
    await enrol(api, token, client_id="c", nonce=NONCE)
    await enrol(api, token, client_id="c", nonce=NONCE)
    written = [decode_audit(record.value or b"") for record in api.audit.records]
    assert [(each.actor, each.action, each.target) for each in written] == [
        ("admin", "register", "enrolment:site"),
        ("enrolment:site", "enrol", "client:c"),
        ("enrolment:site", "repeat-enrolment", "client:c"),
    ]


async def test_a_use_is_not_given_back_where_kafka_does_not_confirm(api: Api) -> None:
    token = await token_of(api, max_uses=1, enrolment_id="site")
    api.audit.loses = True
    assert (await enrol(api, token, nonce=NONCE)).status_code == 503
    api.audit.loses = False
    assert (await enrol(api, token, nonce=NONCE)).status_code == 403
    assert api.sample("tobogganing_gateway_enrolments_total", result="unconfirmed") == 1
