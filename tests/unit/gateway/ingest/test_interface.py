"""The HTTP API: order of checks, responses, metrics. Kafka is in memory."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from contract.kinds import CLIENT, HEADEND
from contract.position import Receipt
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record, hash_api_key
from contract.registry_state import RegistryState
from gateway.metrics import RESULTS
from service.slices import Slices
from tests.unit.gateway.conftest import Api

UNAUTHORIZED = {"error": "Unauthorized"}


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


@pytest.fixture
async def client(api: Api) -> dict[str, Any]:
    return await api.register("clients", name="Laptop", type="client_docker", client_id="c-1")


@pytest.fixture
async def token(api: Api) -> str:
    await api.register("clusters", name="C", region="eu", datacenter="fra1", cluster_id="k-1")
    headend = await api.register("headends", name="H", cluster_id="k-1", headend_id="h-1")
    answer = await api.http.post(
        "/api/v1/auth/token",
        json={"node_id": "h-1", "node_type": "headend", "api_key": headend["api_key"]},
    )
    assert answer.status_code == 200, answer.text
    issued: str = answer.json()["access_token"]
    return issued


async def test_a_token_is_judged_when_the_cluster_time_is_known(api: Api, token: str) -> None:
    """A gateway that starts has no cluster time until Kafka acknowledges its first record."""
    cluster_time = api.registry.time
    known = (cluster_time._earliest, cluster_time._latest, cluster_time._highest)
    cluster_time._earliest = cluster_time._latest = cluster_time._highest = 0.0
    cluster_time._known.clear()
    posting = asyncio.create_task(
        api.http.post("/api/v1/headends/h-1/metrics", json={"metrics": {}}, headers=bearer(token))
    )
    done, _ = await asyncio.wait([posting], timeout=0.2)
    assert not done, posting.result().text
    cluster_time._earliest, cluster_time._latest, cluster_time._highest = known
    cluster_time._known.set()
    assert (await posting).status_code == 200


async def test_a_partly_read_registry_accepts_no_credential(
    api: Api, client: dict[str, Any], token: str
) -> None:
    """A starting gateway reads the old key, and the token's registration, before their end."""
    api.registry.tailer.caught_up = False
    api.topic.at_once = False
    ends: list[tuple[str, str, dict[str, Any]]] = [
        ("client", "c-1", {"api_keys": [hash_api_key("new")]}),
        ("headend", "h-1", {"token_epoch": 1}),
    ]
    for kind, id, changed in ends:
        record = api.registry.get(kind, id)
        assert record is not None
        successor = encode_record(replace(record, revision=record.revision + 1, **changed))
        await api.topic.send("registry", successor, partition=0, key=record.key)
    asked = {
        "/api/v1/clients/c-1/metrics": bearer(client["api_key"]),
        "/api/v1/headends/h-1/metrics": bearer(token),
    }
    api.registry_is_away = True
    for path, headers in asked.items():
        answer = await api.http.post(path, headers=headers, json={"metrics": {}})
        assert answer.status_code == 503
    api.registry_is_away = False
    for path, headers in asked.items():
        answer = await api.http.post(path, headers=headers, json={"metrics": {}})
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    path = "/api/v1/clients/c-1/metrics"
    answer = await api.http.post(path, headers=bearer("new"), json={"metrics": {}})
    assert answer.status_code == 200
    assert len(api.submissions.frames) == 1


async def test_a_submission_is_in_a_frame_of_its_partition(
    api: Api, client: dict[str, Any]
) -> None:
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics",
        headers=bearer(client["api_key"]),
        json={"headless": True, "metrics": {"bytes_sent": 1000, "zulu": 1}, "timestamp": 5},
    )
    assert answer.status_code == 200
    partition, frame = api.submissions.frames[0]
    body = answer.json()
    assert Receipt.parse(body["receipt"])[:3] == (partition, 0, 0)
    assert body == {
        "status": "metrics_received",
        "receipt": body["receipt"],
        "ignored": ["zulu"],
    }
    (submission,) = frame.submissions
    record = api.registry.get("client", "c-1")
    assert record is not None
    registered = ("client", "c-1", record.incarnation)
    assert (submission.kind, submission.id, submission.incarnation) == registered
    assert submission.labels == {"type": "docker", "name": "Laptop", "headless": "true"}
    assert submission.metrics == {"bytes_sent": 1000}
    assert submission.timestamp == 5
    assert api.sample("tobogganing_gateway_ignored_metrics_total") == 1
    assert (
        api.sample("tobogganing_gateway_submissions_total", kind="client", result="received") == 1
    )


async def test_omitted_labels_use_their_defaults(
    api: Api, client: dict[str, Any], token: str
) -> None:
    await api.http.post(
        "/api/v1/clients/c-1/metrics", headers=bearer(client["api_key"]), json={"metrics": {}}
    )
    bodies: list[dict[str, Any]] = [{"metrics": {}}, {"metrics": {}, "headend_name": "mine"}]
    for body in bodies:
        await api.http.post("/api/v1/headends/h-1/metrics", headers=bearer(token), json=body)
    laptop, unnamed, named = (frame.submissions[0] for _, frame in api.submissions.frames)
    assert laptop.labels == {"name": "Laptop", "type": "docker"}
    assert laptop.default_labels == {"headless": "false"}
    assert unnamed.labels == {"region": "eu", "datacenter": "fra1"}
    assert unnamed.default_labels == {"name": "H"}
    assert named.labels == {"region": "eu", "datacenter": "fra1", "name": "mine"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1",
        "/api/v1/clients/c-1/metrics/",
        "/api/v1/clients//metrics",
        "/api/v1/clients/-x/metrics",
        "/api/v1/clients/.x/metrics",
        "/api/v1/clients/a b/metrics",
        "/api/v1/clients/a%2Fb/metrics",
        "/api/v1/clients/a%00/metrics",
        "/api/v1/clients/c-1/metrics%0A",
        "/api/v1/clients/ü/metrics",
        f"/api/v1/clients/{'x' * 129}/metrics",
        "/api/v2/clients/c-1/metrics",
        "/api/v1/clusters/c-1/metrics",
    ],
)
async def test_unknown_paths_are_404(api: Api, client: dict[str, Any], path: str) -> None:
    answer = await api.http.post(path, headers=bearer(client["api_key"]), json={"metrics": {}})
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    counted = api.sample(
        "tobogganing_manager_http_requests_total",
        method="POST",
        endpoint="unmatched",
        status="404",
    )
    assert counted == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path", ["/api/v1/clients/c-1/metrics", "/api/v1/clients/c-1/rotate-key", "/api/v1/auth/token"]
)
async def test_other_methods_are_405(api: Api, method: str, path: str) -> None:
    answer = await api.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert answer.json() == {"error": "Method Not Allowed"}


CREDENTIALS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic YTpi"},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Bearer " + "x" * 5000},
    {"Authorization": "Bearer admin"},
    {"Authorization": "Bearer scrape"},
    {"X-Api-Key": "x"},
]


@pytest.mark.parametrize("headers", CREDENTIALS)
@pytest.mark.parametrize("id", ["c-1", "nobody"])
async def test_the_response_to_a_wrong_key_does_not_reveal_whether_the_id_exists(
    api: Api, client: dict[str, Any], headers: dict[str, str], id: str
) -> None:
    answer = await api.http.post(
        f"/api/v1/clients/{id}/metrics", headers=headers, json={"metrics": {}}
    )
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    assert answer.headers["www-authenticate"] == "Bearer"
    attempts = "tobogganing_manager_auth_attempts_total"
    assert api.sample(attempts, type="api_key", result="failure") == 1
    assert api.sample(attempts, type="api_key", result="success") == 0
    assert api.submissions.frames == []


async def test_the_key_of_another_entity_is_refused(api: Api, client: dict[str, Any]) -> None:
    other = await api.register("clients", name="Other", type="native")
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics", headers=bearer(other["api_key"]), json={"metrics": {}}
    )
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


async def test_two_authorization_headers_are_refused(api: Api, client: dict[str, Any]) -> None:
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics",
        headers=[("Authorization", f"Bearer {client['api_key']}")] * 2,
        json={"metrics": {}},
    )
    assert answer.status_code == 401


async def test_a_key_is_refused_only_after_the_registry_was_read_to_its_end(
    api: Api, client: dict[str, Any]
) -> None:
    path = "/api/v1/clients/c-1/metrics"
    body: dict[str, Any] = {"metrics": {}}
    assert (await api.http.post(path, headers=bearer(client["api_key"]), json=body)).is_success
    assert api.catch_ups == []
    await api.http.post(path, headers=bearer("x"), json=body)
    assert len(api.catch_ups) == 1
    await api.http.post("/api/v1/clients/nobody/metrics", headers=bearer("x"), json=body)
    assert len(api.catch_ups) == 2


async def test_a_key_registered_at_another_gateway_is_accepted(api: Api) -> None:
    """Another gateway registered it; this one reads it because of the request."""
    api.topic.at_once = False
    adding = asyncio.create_task(
        api.http.post(
            "/api/v1/clients/register",
            headers=bearer("admin"),
            json={"name": "n", "type": "native", "client_id": "new"},
        )
    )
    await api.topic.until(2)
    assert api.registry.get("client", "new") is None
    api.topic.deliver(api.registry)
    key = (await adding).json()["api_key"]
    api.registry.state = RegistryState()
    api.topic.delivered.clear()
    answer = await api.http.post(
        "/api/v1/clients/new/metrics", headers=bearer(key), json={"metrics": {}}
    )
    assert answer.status_code == 200
    assert len(api.catch_ups) == 1


@pytest.mark.parametrize("id", ["c-1", "nobody"])
async def test_an_unreadable_registry_is_503_not_401(
    api: Api, client: dict[str, Any], id: str
) -> None:
    api.registry_is_away = True
    answer = await api.http.post(
        f"/api/v1/clients/{id}/metrics", headers=bearer("x"), json={"metrics": {}}
    )
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    for result in ("success", "failure"):
        attempts = "tobogganing_manager_auth_attempts_total"
        assert api.sample(attempts, type="api_key", result=result) == 0


def node(api: Api, kind: str, id: str) -> RegistryRecord:
    """Return the record of a node; a record that is not registered if the node is unknown."""
    unknown = RegistryRecord(RECORD_VERSION, kind, id, 1, "n", incarnation=0)
    return api.registry.get(kind, id) or unknown


async def test_a_headend_submits_only_with_its_own_token(api: Api, token: str) -> None:
    path, body = "/api/v1/headends/{}/metrics", {"metrics": {"cpu_usage": 45.2}}
    answer = await api.http.post(path.format("h-1"), headers=bearer(token), json=body)
    assert answer.status_code == 200
    refused = [
        ("h-2", token),
        ("h-1", token[:-3] + "abc"),
        ("h-1", api.jwt_service.issue(node(api, "client", "h-1")).text),
        ("h-1", api.jwt_service.issue(node(api, "headend", "h-2")).text),
        ("h-1", api.jwt_service.issue(node(api, "headend", "h-1"), now=0).text),
        ("h-1", "x"),
    ]
    for id, credential in refused:
        answer = await api.http.post(path.format(id), headers=bearer(credential), json=body)
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    attempts = "tobogganing_manager_auth_attempts_total"
    assert api.sample(attempts, type="jwt", result="failure") == len(refused)
    assert api.sample(attempts, type="jwt", result="success") == 1


async def test_a_removed_headend_is_404_only_for_its_own_token(api: Api) -> None:
    own = api.jwt_service.issue(node(api, "headend", "gone")).text
    path = "/api/v1/headends/gone/metrics"
    answer = await api.http.post(path, headers=bearer(own), json={"metrics": {}})
    assert (answer.status_code, answer.json()) == (404, {"error": "Headend not found"})
    assert len(api.catch_ups) == 1
    other = api.jwt_service.issue(node(api, "headend", "other")).text
    answer = await api.http.post(path, headers=bearer(other), json={"metrics": {}})
    assert answer.status_code == 401


async def test_a_headends_api_key_is_not_accepted_as_a_token(api: Api, token: str) -> None:
    headend = await api.register("headends", name="H2", cluster_id="k-1")
    answer = await api.http.post(
        f"/api/v1/headends/{headend['headend_id']}/metrics",
        headers=bearer(headend["api_key"]),
        json={"metrics": {}},
    )
    assert answer.status_code == 401


async def test_checks_are_made_in_the_documented_order(api: Api, client: dict[str, Any]) -> None:
    """Each request violates one check and all later ones, and gets the error of the first."""
    good = bearer(client["api_key"])
    large = b"[" * 70_000
    path = "/api/v1/clients/c-1/metrics"
    text = {"Content-Type": "text/plain"}
    steps: list[tuple[str, str, dict[str, str], bytes, int]] = [
        ("GET", "/api/v1/nothing", text, large, 404),
        ("GET", path, text, large, 405),
        ("POST", path, text | bearer("x"), large, 401),
        ("POST", path, text | good, large, 413),
        ("POST", path, text | good, b"[", 415),
        ("POST", path, {"Content-Type": "application/json"} | good, b"[", 400),
    ]
    for method, where, headers, content, expected in steps:
        answer = await api.http.request(method, where, headers=headers, content=content)
        assert answer.status_code == expected
        assert isinstance(answer.json()["error"], str)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_the_size_limit_applies_to_chunked_bodies(api: Api, client: dict[str, Any]) -> None:
    headers = bearer(client["api_key"]) | {"Content-Type": "application/json"}
    path = "/api/v1/clients/c-1/metrics"
    fits = b'{"metrics":{}}'.ljust(65_536)
    for content, expected in (
        (chunks(fits[:30_000], fits[30_000:]), 200),
        (chunks(fits, b" "), 413),
        (chunks(b'{"metrics"', b":{", b"}}"), 200),
        (chunks(), 400),
    ):
        answer = await api.http.post(path, headers=headers, content=content)
        assert answer.status_code == expected
    answer = await api.http.post(
        path, headers=headers | {"Content-Type": "text/plain"}, content=chunks(fits, b" ")
    )
    assert answer.status_code == 413


async def test_the_size_limit_is_exact_to_the_byte(api: Api, client: dict[str, Any]) -> None:
    headers = bearer(client["api_key"]) | {"Content-Type": "application/json"}
    for size, expected in ((65_536, 200), (65_537, 413)):
        answer = await api.http.post(
            "/api/v1/clients/c-1/metrics",
            headers=headers,
            content=b'{"metrics":{}}'.ljust(size),
        )
        assert answer.status_code == expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json;charset=UTF-8", 200),
        ('application/json; charset="utf-8"', 200),
        ("Application/JSON", 200),
        ("application/json; charset=latin-1", 415),
        ("application/json-seq", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/json", 415),
        ("", 415),
        (None, 415),
    ],
)
async def test_content_types_are_checked(
    api: Api, client: dict[str, Any], content_type: str | None, expected: int
) -> None:
    headers = bearer(client["api_key"])
    if content_type is not None:
        headers["Content-Type"] = content_type
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics", headers=headers, content=b'{"metrics":{}}'
    )
    assert answer.status_code == expected


@pytest.mark.parametrize("other", ["application/json", "text/plain"])
async def test_two_content_types_are_415(api: Api, client: dict[str, Any], other: str) -> None:
    for types in ((other, "application/json"), ("application/json", other)):
        headers = [*bearer(client["api_key"]).items(), *(("Content-Type", type) for type in types)]
        answer = await api.http.post(
            "/api/v1/clients/c-1/metrics", headers=headers, content=b'{"metrics":{}}'
        )
        assert answer.status_code == 415


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zip", ""])
async def test_unknown_codings_are_415(api: Api, client: dict[str, Any], coding: str) -> None:
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics",
        headers=bearer(client["api_key"]) | {"Content-Encoding": coding},
        json={"metrics": {}},
    )
    assert answer.status_code == 415
    assert api.submissions.frames == []


async def test_compressed_registrations_are_415(api: Api) -> None:
    answer = await api.http.post(
        "/api/v1/clients/register",
        headers=bearer("admin") | {"Content-Encoding": "gzip"},
        content=gzip.compress(b'{"name":"n","type":"native"}'),
    )
    assert answer.status_code == 415


async def test_an_invalid_body_is_a_400_with_its_field_and_has_no_effect(
    api: Api, client: dict[str, Any]
) -> None:
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics",
        headers=bearer(client["api_key"]),
        json={"metrics": {"bytes_sent": "many", "bytes_received": 1}},
    )
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "metrics.bytes_sent: expected a number, got a string",
        "field": "metrics.bytes_sent",
    }
    assert api.submissions.frames == []
    assert api.sample("tobogganing_gateway_submissions_total", kind="client", result="refused") == 1


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ingest.submission.MEMORY_BUDGET", 50_000)


@pytest.mark.usefixtures("little_room")
async def test_bodies_beyond_the_memory_budget_are_503_and_release_it(
    api: Api, client: dict[str, Any]
) -> None:
    headers = bearer(client["api_key"]) | {"Content-Type": "application/json"}
    path, whole = "/api/v1/clients/c-1/metrics", b'{"metrics":{}}'
    come, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b" " * 40_000
        come.set()
        await go_on.wait()
        yield whole

    held = asyncio.create_task(api.http.post(path, headers=headers, content=slow()))
    await come.wait()

    async def chunks() -> AsyncIterator[bytes]:
        yield b" " * 40_000 + whole

    async with asyncio.timeout(5):
        while (await api.http.post(path, headers=headers, content=chunks())).status_code == 200:
            pass  # the first request's body was not read yet
    answer = await api.http.post(path, headers=headers, content=chunks())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    results = "tobogganing_gateway_submissions_total"
    assert api.sample(results, kind="client", result="overloaded") == 2
    assert (await api.http.post(path, headers=headers, content=whole)).status_code == 200
    go_on.set()
    assert (await held).status_code == 200
    assert (await api.http.post(path, headers=headers, content=chunks())).status_code == 200


async def test_a_body_that_does_not_arrive_is_408(api: Api, client: dict[str, Any]) -> None:
    async def hanging() -> AsyncIterator[bytes]:
        yield b'{"metrics"'
        await asyncio.sleep(60)

    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics",
        headers=bearer(client["api_key"]) | {"Content-Type": "application/json"},
        content=hanging(),
    )
    assert answer.status_code == 408


async def test_an_unconfirmed_submission_is_503_at_its_deadline(
    api: Api, client: dict[str, Any]
) -> None:
    api.submissions.fails = True
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics", headers=bearer(client["api_key"]), json={"metrics": {}}
    )
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    results = "tobogganing_gateway_submissions_total"
    assert api.sample(results, kind="client", result="unconfirmed") == 1


async def test_submissions_beyond_the_queue_limit_are_503_at_once(
    api: Api, client: dict[str, Any]
) -> None:
    api.submissions.fails = True  # each waits until its deadline; three may wait
    answers = await asyncio.gather(
        *(
            api.http.post(
                "/api/v1/clients/c-1/metrics",
                headers=bearer(client["api_key"]),
                json={"metrics": {}},
            )
            for _ in range(5)
        )
    )
    assert [answer.status_code for answer in answers] == [503] * 5
    assert all(answer.headers["retry-after"] for answer in answers)
    results = "tobogganing_gateway_submissions_total"
    assert api.sample(results, kind="client", result="overloaded") == 2
    assert api.sample(results, kind="client", result="unconfirmed") == 3


@pytest.mark.parametrize(("count", "result"), [(3, "unconfirmed"), (4, "overloaded")])
async def test_each_sample_of_a_backlog_is_counted(
    api: Api, client: dict[str, Any], count: int, result: str
) -> None:
    api.submissions.fails = True  # three submissions may wait
    samples = [{"timestamp": number, "metrics": {}} for number in range(count)]
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics", headers=bearer(client["api_key"]), json={"samples": samples}
    )
    assert answer.status_code == 503
    results = "tobogganing_gateway_submissions_total"
    counted = {each: api.sample(results, kind="client", result=each) for each in RESULTS}
    assert counted == dict.fromkeys(RESULTS, 0) | {result: count}


async def test_a_backlog_not_decoded_by_its_deadline_is_503(
    api: Api, client: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(self: Slices, steps: object, deadline: float) -> None:
        raise TimeoutError

    monkeypatch.setattr(Slices, "run", run)
    answer = await api.http.post(
        "/api/v1/clients/c-1/metrics",
        headers=bearer(client["api_key"]),
        json={"samples": [{"timestamp": 1, "metrics": {}}]},
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_client_is_registered(api: Api) -> None:
    answer = await api.register("clients", name="Zoë's 🛷", type="mobile", public_key="ignored")
    assert answer.keys() == {"client_id", "api_key", "name", "type", "ignored"}
    assert answer["ignored"] == ["public_key"]
    assert answer["client_id"].startswith("client-")
    assert (answer["name"], answer["type"]) == ("Zoë's 🛷", "mobile")
    assert len(answer["api_key"]) == 43
    record = api.registry.get("client", answer["client_id"])
    assert record is not None
    assert answer["api_key"] not in repr(record)


@pytest.mark.parametrize(
    ("given", "type"),
    [
        ("native", "native"),
        ("docker", "docker"),
        ("mobile", "mobile"),
        ("client_native", "native"),
        ("client_docker", "docker"),
    ],
)
async def test_client_types_are_checked(api: Api, given: str, type: str) -> None:
    assert (await api.register("clients", name="n", type=given))["type"] == type


async def test_an_id_can_be_registered_only_once(api: Api, client: dict[str, Any]) -> None:
    answer = await api.http.post(
        "/api/v1/clients/register",
        headers=bearer("admin"),
        json={"name": "Other", "type": "native", "client_id": "c-1"},
    )
    assert answer.status_code == 409
    assert "error" in answer.json()
    record = api.registry.get("client", "c-1")
    assert record is not None
    assert record.name == "Laptop"


async def test_a_headend_has_region_and_datacenter_of_its_cluster(api: Api) -> None:
    cluster = await api.register(
        "clusters", name="K", region="eu", datacenter="fra1", headend_url="https://h.example"
    )
    assert {"cluster_id", "name", "region", "datacenter"} <= cluster.keys()
    headend = await api.register("headends", name="H", cluster_id=cluster["cluster_id"])
    assert headend.keys() == {"headend_id", "api_key"}
    record = api.registry.get("headend", headend["headend_id"])
    assert record is not None
    assert record.attributes == {
        "cluster_id": cluster["cluster_id"],
        "region": "eu",
        "datacenter": "fra1",
    }


BAD_REGISTRATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("clients", {"type": "native"}, "name"),
    ("clients", {"name": "n"}, "type"),
    ("clients", {"name": "", "type": "native"}, "name"),
    ("clients", {"name": "x" * 256, "type": "native"}, "name"),
    ("clients", {"name": "a\nb", "type": "native"}, "name"),
    ("clients", {"name": 7, "type": "native"}, "name"),
    ("clients", {"name": "n", "type": "tablet"}, "type"),
    ("clients", {"name": "n", "type": None}, "type"),
    ("clients", {"name": "n", "type": "native", "client_id": "-x"}, "client_id"),
    ("clients", {"name": "n", "type": "native", "client_id": ""}, "client_id"),
    ("clients", {"name": "n", "type": "native", "client_id": "x" * 129}, "client_id"),
    ("clients", {"name": "n", "type": "native", "client_id": "a/b"}, "client_id"),
    ("clients", {"name": "n", "type": "native", "client_id": "a\n"}, "client_id"),
    ("clients", {"name": "n", "type": "native", "client_id": 5}, "client_id"),
    ("clusters", {"name": "n", "region": "r"}, "datacenter"),
    (
        "clusters",
        {"name": "n", "region": "r", "datacenter": "d", "headend_url": "http://h/\n"},
        "headend_url",
    ),
    ("clusters", {"name": "n", "region": "\x00", "datacenter": "d"}, "region"),
    ("clusters", {"name": "n", "region": "r", "datacenter": "d", "cluster_id": "é"}, "cluster_id"),
    ("headends", {"name": "n"}, "cluster_id"),
    ("headends", {"name": "n", "cluster_id": "unknown"}, "cluster_id"),
    ("headends", {"name": "n", "cluster_id": "k", "headend_id": " "}, "headend_id"),
]


@pytest.mark.parametrize(("collection", "body", "field"), BAD_REGISTRATIONS)
async def test_invalid_registrations_are_refused(
    api: Api, collection: str, body: dict[str, Any], field: str
) -> None:
    answer = await api.http.post(
        f"/api/v1/{collection}/register", headers=bearer("admin"), json=body
    )
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert len(api.topic.records) == 1, "the registry contains only the signing key"


@pytest.mark.parametrize("collection", ["clients", "clusters", "headends"])
@pytest.mark.parametrize("headers", [{}, bearer("scrape"), bearer("Admin"), bearer("admin2")])
async def test_registration_needs_the_admin_token(
    api: Api, collection: str, headers: dict[str, str]
) -> None:
    answer = await api.http.post(f"/api/v1/{collection}/register", headers=headers, content=b"[")
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    attempts = "tobogganing_manager_auth_attempts_total"
    assert api.sample(attempts, type="admin", result="failure") == 1


async def test_a_registration_that_kafka_does_not_confirm_is_503(api: Api) -> None:
    api.topic.loses = True
    answer = await api.http.post(
        "/api/v1/clients/register", headers=bearer("admin"), json={"name": "n", "type": "native"}
    )
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_token_contains_its_node_and_expiry(api: Api, client: dict[str, Any]) -> None:
    answer = await api.http.post(
        "/api/v1/auth/token",
        json={"node_id": "c-1", "node_type": "client_docker", "api_key": client["api_key"]},
    )
    assert answer.status_code == 200
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_at"].endswith("Z")
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["node_type"]) == ("c-1", "client")


@pytest.mark.parametrize(
    "change",
    [{"node_id": "nobody"}, {"node_type": "headend"}, {"api_key": "wrong"}, {"api_key": "\ud800"}],
)
async def test_a_wrong_key_gets_no_token(
    api: Api, client: dict[str, Any], change: dict[str, str]
) -> None:
    body = {"node_id": "c-1", "node_type": "client", "api_key": client["api_key"]} | change
    answer = await api.http.post(
        "/api/v1/auth/token",
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    if change.get("api_key") == "\ud800":
        assert answer.status_code == 400
        return
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    attempts = "tobogganing_manager_auth_attempts_total"
    assert api.sample(attempts, type="api_key", result="failure") == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"node_type": "client", "api_key": "k"}, "node_id"),
        ({"node_id": "c", "api_key": "k"}, "node_type"),
        ({"node_id": "c", "node_type": "client"}, "api_key"),
        ({"node_id": "c", "node_type": "cluster", "api_key": "k"}, "node_type"),
        ({"node_id": "c c", "node_type": "client", "api_key": "k"}, "node_id"),
        ({"node_id": "c", "node_type": "client", "api_key": ""}, "api_key"),
    ],
)
async def test_invalid_token_requests_are_refused(
    api: Api, body: dict[str, Any], field: str
) -> None:
    answer = await api.http.post("/api/v1/auth/token", json=body)
    assert answer.status_code == 400
    assert answer.json()["field"] == field


async def test_certificate_metrics_exist_from_the_start(api: Api) -> None:
    for kind in (CLIENT, HEADEND):
        registry = api.metrics.registry
        name = "tobogganing_manager_certificates_issued_total"
        assert registry.get_sample_value(name, {"type": kind.name}) == 0


async def test_requests_are_counted_by_template(api: Api, client: dict[str, Any]) -> None:
    for _ in range(2):
        await api.http.post(
            "/api/v1/clients/c-1/metrics", headers=bearer(client["api_key"]), json={"metrics": {}}
        )
    counted = api.sample(
        "tobogganing_manager_http_requests_total",
        method="POST",
        endpoint="/api/v1/clients/{client_id}/metrics",
        status="200",
    )
    assert counted == 2


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://é\U0007720f.example", 200),  # a code point that Unicode has not assigned yet
        ("h" * 2048, 200),
        ("h" * 2049, 400),
        ("https://a\u0085b", 400),
        ("https://a\nb", 400),
    ],
)
async def test_the_url_of_a_cluster_must_be_valid_text(api: Api, url: str, status: int) -> None:
    body = {"name": "C", "region": "eu", "datacenter": "f", "headend_url": url}
    answer = await api.http.post(
        "/api/v1/clusters/register", json=body, headers={"Authorization": "Bearer admin"}
    )
    assert answer.status_code == status
