"""Batches and backlogs over HTTP: items are independent, and keep their order for each entity."""

import asyncio
import dataclasses
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from backports import zstd

from contract.entity import entity_key, partition_of
from contract.frame import Submission
from contract.kinds import CLIENT
from contract.position import Receipt
from contract.registry import encode_record
from gateway.ingest.batch import MAX_BATCH_BYTES
from gateway.ingest.batch_decoder import MAX_ITEMS, BatchDecoder
from gateway.ingest.routed_batch import RoutedBatch
from gateway.produce.producer import RecordMetadata, SendError
from gateway.settings import GatewaySettings
from tests.unit.gateway.conftest import Api
from tests.unit.gateway.ingest.test_encoder import knowing, record_of

PATH = "/api/v1/metrics"
SUBMISSIONS = "tobogganing_gateway_submissions_total"
Post = Callable[..., Any]


ALL_FAIL = pytest.mark.parametrize("answer_within", [1.0])
"""The test waits for the whole deadline."""
SOME_FAIL = pytest.mark.parametrize("answer_within", [3.0])
"""The test waits for the whole deadline, within which the other frames are sent."""


@pytest.fixture
def answer_within() -> float:
    """A deadline that leaves a busy machine time for large batches."""
    return 9.0


@pytest.fixture
def settings(settings: GatewaySettings, answer_within: float) -> GatewaySettings:
    return dataclasses.replace(settings, answer_within_seconds=answer_within)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def item(id: str, kind: str = "client", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "id": id, "metrics": {}} | fields


@pytest.fixture
async def fleet(api: Api) -> list[str]:
    api.batcher.max_pending = 20_000
    await api.register("clusters", name="C", region="eu", datacenter="f", cluster_id="k")
    await api.register("headends", name="H", cluster_id="k", headend_id="h")
    ids = [f"c{number}" for number in range(8)]
    for id in ids:
        await api.register("clients", name=f"Name of {id}", type="native", client_id=id)
    return ids


@pytest.fixture
async def post(api: Api, fleet: list[str]) -> Post:
    """Post a batch with the key of a relay whose scope is `all`."""
    relay = await api.register("relays", name="R", scope="all")

    async def post(items: Any, key: str = relay["api_key"], **headers: str) -> httpx.Response:
        content = items if isinstance(items, bytes) else json.dumps(items).encode()
        kind = {"Content-Type": "application/json"}
        return await api.http.post(PATH, content=content, headers=bearer(key) | kind | headers)

    return post


def sent(api: Api) -> list[Submission]:
    return [submission for _, frame in api.submissions.frames for submission in frame.submissions]


def at(api: Api, receipt: str) -> Submission:
    """Return the submission at the position of a receipt."""
    wanted = Receipt.parse(receipt)
    frames = [frame for partition, frame in api.submissions.frames if partition == wanted.partition]
    return frames[wanted.offset].submissions[wanted.index]


def lines(items: list[Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in items)


def lose_the_second_frame(api: Api) -> None:
    send, sent = api.submissions.send, 0

    async def fails_once(topic: str, value: bytes, *, partition: int) -> RecordMetadata:
        nonlocal sent
        sent += 1
        if sent == 2:
            raise SendError("lost")
        return await send(topic, value, partition=partition)

    api.submissions.send = fails_once  # type: ignore[method-assign]


async def test_every_accepted_item_has_a_receipt(api: Api, post: Post, fleet: list[str]) -> None:
    items = [item(id, metrics={"bytes_sent": n}) for n, id in enumerate(fleet)]
    items.append(item("h", "headend", metrics={"cpu_usage": 1.5}, headend_name="mine"))
    answer = await post(items)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (9, [])
    found = [at(api, receipt) for receipt in body["receipts"]]
    assert [submission.id for submission in found] == [*fleet, "h"]
    assert [submission.metrics for submission in found[:-1]] == [
        {"bytes_sent": n} for n in range(8)
    ]
    assert found[0].labels == {"name": "Name of c0", "type": "native"}
    assert found[-1].labels == {"region": "eu", "datacenter": "f", "name": "mine"}
    assert api.sample(SUBMISSIONS, kind="client", result="received") == 8
    assert api.sample(SUBMISSIONS, kind="headend", result="received") == 1
    for partition, frame in api.submissions.frames:
        for submission in frame.submissions:
            assert partition == partition_of(entity_key(submission.kind, submission.id), 4)


BAD: list[tuple[Any, str | None, str]] = [
    (item("nobody"), "nobody", "the client is not registered"),
    (item("c1", "headend"), "c1", "the headend is not registered"),
    (item("c1", metrics={"bytes_sent": "x"}), "c1", "metrics.bytes_sent: expected a number"),
    (item("c1", metrics={"bytes_sent": 1.5}), "c1", "metrics.bytes_sent: must be a whole number"),
    (item("c1", timestamp=9e12), "c1", "timestamp: is more than 5 minutes in the future"),
    (item("c1", kind="cluster"), "c1", "kind: must be one of client, headend"),
    ({"kind": "client", "metrics": {}}, None, "id: is missing"),
    ({"id": "c1", "metrics": {}}, None, "kind: is missing"),
    ({"kind": "client", "id": "c1"}, "c1", "metrics: is missing"),
    ({"kind": "client", "id": 7, "metrics": {}}, None, "id: expected a string"),
    (item("x" * 129), None, "id: "),
    (
        item("h", "headend", headend_name="a\nb"),
        "h",
        "headend_name: must not contain U+000A: remove it "
        "(control characters and line separators are not allowed)",
    ),
    (7, None, "expected an object"),
    (None, None, "expected an object"),
    ([], None, "expected an object"),
]


@pytest.mark.parametrize("as_lines", [False, True], ids=["array", "lines"])
@pytest.mark.parametrize(("bad", "id", "error"), BAD)
async def test_an_invalid_item_does_not_affect_the_others(
    api: Api, post: Post, bad: Any, id: str | None, error: str, as_lines: bool
) -> None:
    items = [item("c0"), bad, item("c2", metrics={"zulu": 1, "bytes_sent": 4})]
    if as_lines:
        answer = await post(lines(items), **{"Content-Type": "application/x-ndjson"})
    else:
        answer = await post(items)
    assert answer.status_code == 200
    body = answer.json()
    (rejected,) = body["rejected"]
    assert (rejected["index"], rejected["id"]) == (1, id)
    assert rejected["error"].startswith(error)
    assert "retry" not in rejected
    assert body["accepted"] == 2
    assert [at(api, receipt).id for receipt in body["receipts"]] == ["c0", "c2"]
    assert sorted(submission.id for submission in sent(api)) == ["c0", "c2"]
    assert body["ignored"] == ["zulu"]
    assert api.sample("tobogganing_gateway_ignored_metrics_total") == 1


async def test_lines_that_are_not_json_are_rejected_items(api: Api, post: Post) -> None:
    content = b'{"kind":"client"\n\n' + lines([item("c1")]) + b'\r\n"\xff"\n[' + b"[" * 9000 + b"\n"
    answer = await post(content, **{"Content-Type": "application/x-ndjson; charset=utf-8"})
    body = answer.json()
    assert body["accepted"] == 1
    assert [each["index"] for each in body["rejected"]] == [0, 2, 3]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[", b"[{}", b"[1,]", b"null", b'["\xff"]', b"[" * 90_000]
)
async def test_a_body_that_is_not_an_array_is_a_400(api: Api, post: Post, content: bytes) -> None:
    answer = await post(content)
    assert answer.status_code == 400
    assert answer.json()["field"] == "body"
    assert api.submissions.frames == []


@pytest.mark.parametrize("content", [b"[]", b" [ ] "])
async def test_an_empty_batch_is_accepted(post: Post, content: bytes) -> None:
    answer = await post(content)
    assert answer.json() == {"accepted": 0, "rejected": [], "receipts": []}


async def test_items_of_one_entity_keep_their_order(api: Api, post: Post) -> None:
    items = [item("c1", metrics={"bytes_sent": n}) for n in range(1200)]
    answer = await post(items)
    assert answer.json()["accepted"] == 1200
    assert [each.metrics["bytes_sent"] for each in sent(api)] == list(range(1200))
    assert max(len(frame.submissions) for _, frame in api.submissions.frames) <= 500
    got = [at(api, receipt).metrics["bytes_sent"] for receipt in answer.json()["receipts"]]
    assert got == list(range(1200))


async def test_authentication_attempts_of_relays_are_counted(api: Api, post: Post) -> None:
    def attempts(result: str) -> float:
        labels = {"type": "api_key", "result": result}
        return api.sample("tobogganing_manager_auth_attempts_total", **labels)

    good, bad = attempts("success"), attempts("failure")
    assert (await post([item("c1")])).status_code == 200
    assert (attempts("success"), attempts("failure")) == (good + 1, bad)
    assert (await post([item("c1")], "not-a-key")).status_code == 401
    assert (attempts("success"), attempts("failure")) == (good + 1, bad + 1)


async def test_items_outside_the_relays_scope_are_rejected(api: Api, post: Post) -> None:
    relay = await api.register("relays", name="R", scope=["c1", "h"], relay_id="r.1-a")
    assert relay["relay_id"] == "r.1-a"
    items = [item("c1"), item("c2"), item("h", "headend"), item("nobody")]
    body = (await post(items, relay["api_key"])).json()
    assert body["accepted"] == 2
    assert [each["index"] for each in body["rejected"]] == [1, 3]
    errors = {each["error"] for each in body["rejected"]}
    assert errors == {"the client is not in the scope of this relay"}
    shown = await api.http.get("/api/v1/relays/r.1-a", headers=bearer("admin"))
    assert shown.json()["scope"] == ["c1", "h"]


@pytest.mark.parametrize(
    "scope", ["some", "", [], [""], ["a b"], ["*"], ["ü"], [1], {}, None, ["x" * 129]]
)
async def test_invalid_scopes_are_refused(api: Api, scope: Any) -> None:
    answer = await api.http.post(
        "/api/v1/relays/register", json={"name": "R", "scope": scope}, headers=bearer("admin")
    )
    assert answer.status_code == 400
    assert answer.json()["field"].startswith("scope")


@pytest.mark.parametrize("key", ["", "wrong", "admin", "r~wrong", "~", "client", "nobody~x"])
async def test_only_a_relay_may_send_batches(api: Api, post: Post, key: str) -> None:
    await api.register("relays", name="R", scope="all", relay_id="r")
    client = await api.register("clients", name="n", type="native", client_id="r2")
    for credential in (key, client["api_key"], f"r2~{client['api_key']}"):
        answer = await post([item("c1")], credential)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    attempts = "tobogganing_manager_auth_attempts_total"
    assert api.sample(attempts, type="api_key", result="failure") == 3
    assert api.submissions.frames == []


async def test_a_relays_key_can_be_rotated_and_removed(api: Api, post: Post) -> None:
    relay = await api.register("relays", name="R", scope="all", relay_id="r")
    old = relay["api_key"]
    rotated = await api.http.post("/api/v1/relays/r/rotate-key", headers=bearer(old))
    assert rotated.status_code == 200, rotated.text
    new = rotated.json()["new_api_key"]
    assert (await post([item("c1")], old)).status_code == 401
    assert (await post([item("c1")], new)).json()["accepted"] == 1
    removed = await api.http.delete("/api/v1/relays/r", headers=bearer("admin"))
    assert removed.status_code == 200
    assert (await post([item("c1")], new)).status_code == 401


async def test_an_entity_just_registered_at_another_gateway_is_accepted(
    api: Api, post: Post
) -> None:
    """Unknown entities are looked up in the registry as it is now, once for all items."""
    api.topic.at_once = False
    registering = asyncio.create_task(
        api.register("clients", name="New", type="native", client_id="new")
    )
    before = len(api.topic.records)
    await api.topic.until(before + 1)
    asked = len(api.catch_ups)
    items = [item("new", metrics={"bytes_sent": 1}), item("c1"), item("x"), item("new")]
    body = (await post(items)).json()
    await registering
    assert len(api.catch_ups) == asked + 1
    assert [at(api, receipt).id for receipt in body["receipts"]] == ["new", "c1", "new"]
    assert body["rejected"] == [{"index": 2, "id": "x", "error": "the client is not registered"}]


async def test_items_of_unknown_entities_have_retry_while_the_registry_is_unreadable(
    api: Api, post: Post
) -> None:
    api.registry_is_away = True
    body = (await post([item("c1"), item("x")])).json()
    assert body["accepted"] == 1
    (rejected,) = body["rejected"]
    assert (rejected["index"], rejected["retry"]) == (1, True)


@ALL_FAIL
async def test_items_of_a_failed_frame_have_retry(api: Api, post: Post) -> None:
    """One partition fails, the others do not."""
    failing = partition_of(entity_key("client", "c0"), 4)
    api.submissions.failing.add(failing)
    ids = [f"c{number}" for number in range(8)]
    lost = [id for id in ids if partition_of(entity_key("client", id), 4) == failing]
    assert 0 < len(lost) < 8
    answer = await post([item(id) for id in ids])
    assert answer.status_code == 200
    body = answer.json()
    assert [each["id"] for each in body["rejected"]] == lost
    assert all(each["retry"] is True for each in body["rejected"])
    assert [at(api, receipt).id for receipt in body["receipts"]] == [
        id for id in ids if id not in lost
    ]
    assert api.sample(SUBMISSIONS, kind="client", result="unconfirmed") == len(lost)
    assert api.sample(SUBMISSIONS, kind="client", result="received") == 8 - len(lost)


@ALL_FAIL
async def test_a_batch_is_503_only_if_no_item_was_accepted(api: Api, post: Post) -> None:
    api.submissions.fails = True
    answer = await post([item("c1"), item("nobody")])
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    body = answer.json()
    assert (body["accepted"], body["receipts"]) == (0, [])
    assert [each.get("retry") for each in body["rejected"]] == [True, None]
    answer = await post([item("nobody")])
    assert (answer.status_code, answer.json()["accepted"]) == (200, 0)


async def test_items_beyond_the_capacity_have_retry(api: Api, post: Post) -> None:
    api.batcher.max_pending = 3
    items = [item(id) for id in ("c1", "c1", "c1", "c2", "c2")]
    items += [item(id) for id in ("c0", "c3", "c4", "c5", "c6", "c7")]
    body = (await post(items)).json()
    assert 0 < body["accepted"] <= 3
    assert len(body["rejected"]) == len(items) - body["accepted"]
    assert all(each["retry"] for each in body["rejected"])
    overloaded = api.sample(SUBMISSIONS, kind="client", result="overloaded")
    assert overloaded == len(body["rejected"])


@SOME_FAIL
async def test_no_item_is_sent_after_a_failed_item_of_the_same_partition(
    api: Api, post: Post
) -> None:
    """Otherwise, sending the rejected items again would put older values after newer ones."""
    items = [item("c1", metrics={"bytes_sent": number}) for number in range(1_200)]
    api.batcher.max_pending = 499
    answer = await post(items)
    assert (answer.status_code, answer.json()["accepted"]) == (503, 0)
    assert api.submissions.frames == []

    api.batcher.max_pending = 20_000
    lose_the_second_frame(api)
    body = (await post(items)).json()
    assert body["accepted"] == 500
    assert [each["index"] for each in body["rejected"]] == list(range(500, 1_200))
    assert all(each["retry"] for each in body["rejected"])
    assert sum(len(frame.submissions) for _, frame in api.submissions.frames) == 500


async def test_items_of_known_entities_do_not_wait_for_unknown_ones(api: Api, post: Post) -> None:
    left, answered = asyncio.Event(), asyncio.Event()
    send = api.submissions.send

    async def notice(topic: str, value: bytes, *, partition: int) -> RecordMetadata:
        left.set()
        return await send(topic, value, partition=partition)

    async def catch_up(timeout: float) -> None:
        await answered.wait()

    api.submissions.send = notice  # type: ignore[method-assign]
    api.registry.tailer.catch_up = catch_up  # type: ignore[method-assign]
    batch = asyncio.create_task(post([item("x"), item("c1")]))
    await asyncio.wait_for(left.wait(), 10)
    answered.set()
    body = (await batch).json()
    assert (body["accepted"], [each["id"] for each in body["rejected"]]) == (1, ["x"])


async def test_items_of_an_entity_registered_during_the_batch_keep_their_order() -> None:
    """A batch is routed in slices, between which the registry is read."""
    state, templates = knowing()
    items = BatchDecoder().decode_array(
        json.dumps([item("x-1", metrics={"bytes_sent": n}) for n in range(600)]).encode(), 0.0
    )
    assert isinstance(items, list)
    routed = RoutedBatch(items, None, templates, lambda: 0.0)
    sorting = asyncio.create_task(routed.route())
    await asyncio.sleep(0)
    record = record_of(CLIENT)
    state.apply(0, record.key, encode_record(record))
    await sorting
    assert routed.unregistered == list(range(600))
    await routed.retry_unregistered()
    assert routed.unregistered == []


async def test_too_many_items_are_413(api: Api, post: Post) -> None:
    many = [item("c1")] * (MAX_ITEMS + 1)
    for content, type in (
        (json.dumps(many).encode(), "application/json"),
        (lines(many), "application/x-ndjson"),
        (lines([1] * (MAX_ITEMS + 1)), "application/x-ndjson"),
    ):
        answer = await post(content, **{"Content-Type": type})
        assert answer.status_code == 413
    assert api.submissions.frames == []
    assert (await post(many[:-1])).json()["accepted"] == MAX_ITEMS


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ingest.batch.MEMORY_BUDGET", 100_000)


@pytest.mark.usefixtures("little_room")
async def test_batches_beyond_the_memory_budget_are_503_and_release_it(
    api: Api, post: Post
) -> None:
    small, large = [item("c1")] * 1_500, [item("c1")] * 2_500
    for _ in range(3):
        answer = await post(large)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        packed = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
        answer = await post(gzip.compress(lines(large * 3)), **packed)
        assert answer.status_code == 503, "a decompression bomb would exceed the budget"
        answer = await post(gzip.compress(lines(small)), **packed)
        assert answer.json()["accepted"] == len(small)
        assert (await post(small)).json()["accepted"] == len(small)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
async def test_compressed_batches_are_accepted(
    api: Api, post: Post, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    content = json.dumps([item("c1"), item("c2")]).encode()
    coded = {"Content-Encoding": coding}
    assert (await post(pack(content), **coded)).json()["accepted"] == 2
    halves = pack(content[:50]) + pack(content[50:])
    assert (await post(halves, **coded)).json()["accepted"] == 2
    for packed, status in (
        (pack(bytes(MAX_BATCH_BYTES + 1)), 413),
        (pack(content)[:-3], 400),
        (content, 400),
        (pack(content) + b"x", 400),
    ):
        assert (await post(packed, **coded)).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonlines"},
        {"Content-Encoding": "br"},
    ],
)
async def test_other_types_are_415(post: Post, headers: dict[str, str]) -> None:
    assert (await post([], **headers)).status_code == 415


@pytest.mark.parametrize("coding", [None, "gzip", "zstd"])
async def test_a_backlog_is_one_request(api: Api, fleet: list[str], coding: str | None) -> None:
    client = await api.register("clients", name="L", type="native", client_id="late")
    samples = [{"timestamp": n, "metrics": {"bytes_sent": n}} for n in range(600)]
    content = json.dumps({"samples": samples}).encode()
    packs: dict[str | None, Callable[[bytes], bytes]] = {
        None: bytes,
        "gzip": gzip.compress,
        "zstd": zstd.compress,
    }
    headers = bearer(client["api_key"]) | {"Content-Type": "application/json"}
    answer = await api.http.post(
        "/api/v1/clients/late/metrics",
        content=packs[coding](content),
        headers=headers | ({"Content-Encoding": coding} if coding else {}),
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert len(body["receipts"]) == 600
    assert body["receipts"][-1] == body["receipt"]
    assert [at(api, receipt).timestamp for receipt in body["receipts"]] == list(range(600))
    assert [submission.timestamp for submission in sent(api)] == list(range(600))
    assert api.sample(SUBMISSIONS, kind="client", result="received") == 600


@SOME_FAIL
async def test_a_backlog_with_a_failed_frame_is_a_503(api: Api, fleet: list[str]) -> None:
    client = await api.register("clients", name="L", type="native", client_id="late")
    samples = [{"timestamp": n, "metrics": {"bytes_sent": n}} for n in range(600)]
    lose_the_second_frame(api)
    statuses = []
    for _ in range(2):
        answer = await api.http.post(
            "/api/v1/clients/late/metrics",
            content=gzip.compress(json.dumps({"samples": samples}).encode()),
            headers=bearer(client["api_key"])
            | {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
        statuses.append(answer.status_code)
    assert statuses == [503, 200]
    assert len(answer.json()["receipts"]) == 600


@ALL_FAIL
async def test_a_backlog_is_all_or_nothing(api: Api, fleet: list[str]) -> None:
    client = await api.register("clients", name="L", type="native", client_id="late")
    path, headers = "/api/v1/clients/late/metrics", bearer(client["api_key"])
    samples = [{"timestamp": n, "metrics": {"bytes_sent": n}} for n in range(3)]
    bad = {"samples": [*samples, {"timestamp": 1, "metrics": {"bytes_sent": -1}}]}
    answer = await api.http.post(path, json=bad, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (400, "samples[3].metrics.bytes_sent")
    assert api.submissions.frames == []
    api.batcher.max_pending = 2
    answer = await api.http.post(path, json={"samples": samples}, headers=headers)
    assert answer.status_code == 503
    assert api.submissions.frames == []
    api.batcher.max_pending = 20_000
    api.submissions.fails = True
    answer = await api.http.post(path, json={"samples": samples}, headers=headers)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
async def test_a_compressed_submission_is_accepted(
    api: Api, fleet: list[str], coding: str, pack: Callable[[bytes], bytes]
) -> None:
    client = await api.register("clients", name="L", type="native", client_id="packed")
    headers = bearer(client["api_key"]) | {
        "Content-Type": "application/json",
        "Content-Encoding": coding,
    }

    async def status(content: bytes) -> int:
        path = "/api/v1/clients/packed/metrics"
        return (await api.http.post(path, content=content, headers=headers)).status_code

    good = b'{"metrics":{"bytes_sent":5}}'
    assert await status(pack(good)) == 200
    assert sent(api)[0].metrics == {"bytes_sent": 5}
    assert await status(pack(good)[:-1]) == 400
    assert await status(good) == 400
    assert await status(pack(good + b" " * 65_536)) == 413
    assert await status(pack(bytes(8 << 20))) == 413
    assert await status(pack(b"{")) == 400
    assert len(sent(api)) == 1
