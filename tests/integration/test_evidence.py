"""Why an entity is silent, from its submission to the response: real services and a real Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contract.entity import entity_key, partition_of
from contract.evidence import (
    PROCESSOR,
    Evidence,
    EvidenceReason,
    encode_evidence,
    parse_evidence_key,
)
from contract.frame import Submission
from processor.core.partition_state import PartitionState
from processor.table.evidence_renewal import RENEW_AFTER_MS, EvidenceRenewal
from service.config.settings import KafkaSettings
from service.evidence import BURST, MAX_PER_MINUTE
from service.kafka.best_effort_producer import PartitionRecord
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.frames import frame_writer
from tests.integration.gateways import ADMIN, a_manager
from tests.integration.processes import ADMIN_TOKEN, POLL, Service

WRONG_KEY = "wrong-key-of-an-attacker-or-of-a-typing-error"


@pytest.fixture
async def processor(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Service]:
    extra = {"WORKER_NAME": "only", "SWEEP_INTERVAL_SECONDS": "0.3", "RETENTION_HOURS": "0.003"}
    async with Service("processor", kafka_settings, tmp_path, **extra) as service:
        yield service


@pytest.fixture
async def manager(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, processor: Service
) -> AsyncIterator[Service]:
    extra = {
        "CLIENT_ONLINE_SECONDS": "2",
        "CLIENT_LATE_SECONDS": "4",
        "RATE_LIMIT_PER_MINUTE": "100",
    }
    async with a_manager(kafka_settings, tmp_path, signing_keys, processor, **extra) as service:
        yield service


async def register(manager: Service, id: str) -> str:
    body = {"name": id, "type": "native", "client_id": id}
    response = await manager.http.post("/api/v1/clients/register", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text
    return str(response.json()["api_key"])


async def submit(manager: Service, id: str, key: str, **body: Any) -> httpx.Response:
    return await manager.http.post(
        f"/api/v1/clients/{id}/metrics",
        json={"metrics": {"bytes_sent": 1}, **body},
        headers={"authorization": f"Bearer {key}"},
    )


async def why(manager: Service, id: str, token: str = "") -> Any:
    headers = {"authorization": f"Bearer {token}"} if token else manager.authorized
    path = f"/api/v1/checkins/clients/{id}/why"
    async with asyncio.timeout(60):
        while True:
            response = await manager.http.get(path, headers=headers)
            if response.status_code != 503:  # Kafka may be slow on a busy machine
                break
            await asyncio.sleep(POLL)
    assert response.status_code == 200, response.text
    return response.json()


async def why_until(
    manager: Service, id: str, is_met: Callable[[Any], bool], patience: float = 30.0
) -> Any:
    document: Any = None
    try:
        async with asyncio.timeout(patience):
            while True:
                document = await why(manager, id)
                if is_met(document):
                    return document
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"it still says {document}") from None


def has(reason: str) -> Callable[[Any], bool]:
    return lambda document: reason in [each["what"] for each in document["evidence"]]


async def written(settings: KafkaSettings) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    topic = topics_from(settings).evidence.name
    async with TopicReader(settings, topic, range(settings.kafka_partitions)) as reader:
        await reader.read_to_end(lambda _, records: found.extend(records), {})
    return found


async def test_a_wrong_key_shows_within_seconds_and_a_flood_stays_within_its_limits(
    manager: Service, kafka_settings: KafkaSettings
) -> None:
    began = time.monotonic()
    keys = {id: await register(manager, id) for id in ("a", "b")}
    assert (await submit(manager, "a", WRONG_KEY)).status_code == 401
    document = await why_until(manager, "a", lambda each: each["verdict"] == "refused", 10)
    assert "127.0.0.0/24" in document["text"]
    assert (await why(manager, "b"))["verdict"] == "never_reported"

    async def attack(id: str) -> None:
        assert (await submit(manager, id, WRONG_KEY)).status_code == 401

    for _ in range(20):
        await asyncio.gather(*(attack(id) for id in ("a", "b", "nobody", "x" * 100) for _ in "123"))
    await why_until(manager, "b", has("unauthorized"))
    page = await manager.http.get("/checkins/clients/a", headers=manager.authorized)
    assert "Somebody used a wrong credential" in page.text
    records = await written(kafka_settings)
    entities = {parse_evidence_key(record.key)[0] for record in records}
    assert entities == {b"client:a", b"client:b"}, "unknown ids write nothing"
    minutes = (time.monotonic() - began) / 60
    assert len(records) <= 2 * (1 + minutes), "a record a minute for each"
    assert len(records) <= BURST + MAX_PER_MINUTE * minutes
    text = str([(record.key, record.value) for record in records])
    assert WRONG_KEY not in text
    assert not any(key in text for key in keys.values())
    assert "127.0.0.1" not in text, "the network, and not the address"
    metrics = (await manager.http.get("/metrics", headers=manager.authorized)).text
    assert f"tobogganing_gateway_evidence_records_total {len(records)}.0" in metrics
    assert "tobogganing_gateway_dropped_evidence_total 0.0" in metrics
    assert manager.errors() == []


async def test_a_refused_body_and_too_many_submissions_are_told_apart(manager: Service) -> None:
    key = await register(manager, "a")
    assert (await submit(manager, "a", key, metrics={"bytes_sent": -1})).status_code == 400
    document = await why_until(manager, "a", has("invalid"))
    assert document["verdict"] == "refused"
    assert "bytes_sent" in document["text"]
    large = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    path = "/api/v1/clients/a/metrics"
    body = b'{"metrics":{},"x":"' + b"x" * 10**6 + b'"}'
    assert (await manager.http.post(path, content=body, headers=large)).status_code == 413
    plain = large | {"content-type": "text/plain"}
    assert (await manager.http.post(path, content=b"{}", headers=plain)).status_code == 415
    statuses = {(await submit(manager, "a", key)).status_code for _ in range(150)}
    assert statuses == {200, 429}
    document = await why_until(manager, "a", has("rate_limited"))
    assert {each["what"] for each in document["evidence"]} >= {"too_large", "unsupported"}


async def test_what_was_accepted_and_not_applied_has_its_receipt(
    manager: Service, kafka_settings: KafkaSettings
) -> None:
    key = await register(manager, "a")
    now = time.time()
    assert (await submit(manager, "a", key, timestamp=now)).status_code == 200
    response = await submit(manager, "a", key, timestamp=now - 3000)
    stale = response.json()["receipt"]
    document = await why_until(manager, "a", has("stale"))
    (shown,) = [each for each in document["evidence"] if each["what"] == "stale"]
    assert shown["receipt"] == stale
    partition = partition_of(entity_key("client", "a"), kafka_settings.kafka_partitions)
    large = Submission("client", "a", 2**61, labels={"name": "x" * 600_000})
    async with frame_writer(kafka_settings) as frames:
        offset = await frames.frame(partition, large)
        late = await frames.frame(partition, Submission("client", "a", 1), answer_by=1)
    document = await why_until(manager, "a", has("late"))
    receipts = {each["what"]: each.get("receipt") for each in document["evidence"]}
    assert receipts["late"].startswith(f"{partition}-{late}-0-")
    assert receipts["dead_letter"].startswith(f"{partition}-{offset}-0-")
    assert "dead_lettered" not in receipts, "it is shown once"
    await why_until(manager, "a", lambda each: each["verdict"] != "online")


async def test_an_expired_client_is_offline_until_it_is_removed(
    manager: Service, kafka_settings: KafkaSettings
) -> None:
    key = await register(manager, "a")
    await register(manager, "silent")
    assert (await submit(manager, "a", key)).status_code == 200
    document = await why_until(manager, "a", has("expired"), 60)
    assert (document["verdict"], document["state"]) == ("expired", "offline")
    listed = await manager.http.get("/api/v1/checkins", headers=manager.authorized)
    states = {each["id"]: (each["state"], each["expired"]) for each in listed.json()["items"]}
    assert states == {"a": ("offline", True), "silent": ("never", False)}

    response = await manager.http.delete("/api/v1/clients/a", headers=ADMIN)
    assert response.status_code == 200, response.text
    document = await why_until(manager, "a", lambda each: each["verdict"] == "removed")
    assert "actor" not in str(document)
    shown = (await why(manager, "a", ADMIN_TOKEN))["evidence"]
    (removal,) = [each for each in shown if each["what"] == "remove"]
    assert (removal["actor"], removal["address"]) == ("admin", "127.0.0.1")

    expiry = f"client:a|{PROCESSOR}|expired".encode()
    async with asyncio.timeout(60):  # until the row of the removed client has expired
        while True:
            values = [record.value for record in await written(kafka_settings)
                      if record.key == expiry]  # fmt: skip
            if values[-1] is None:
                break
            await asyncio.sleep(POLL)


async def test_the_evidence_of_expired_entities_is_renewed(kafka_settings: KafkaSettings) -> None:
    topic = (await ensure_topics(kafka_settings)).evidence.name
    producer = AIOKafkaProducer(**client_options(kafka_settings))
    await producer.start()

    async def write(records: Sequence[PartitionRecord]) -> None:
        for record in records:
            await producer.send_and_wait(topic, record.value, record.key, record.partition)

    def of(id: str, reason: EvidenceReason) -> PartitionRecord:
        evidence = Evidence(1, "client", id, PROCESSOR, reason, 1, 5, 5, incarnation=1)
        return PartitionRecord(0, evidence.key, encode_evidence(evidence))

    gone, back = of("gone", EvidenceReason.EXPIRED), of("back", EvidenceReason.EXPIRED)
    removed = of("removed", EvidenceReason.EXPIRED)
    state = PartitionState(0)
    state.rows[b"client:back"] = b"{}"
    table = SimpleNamespace(store=SimpleNamespace(owned=lambda _: state))
    renewal = EvidenceRenewal(kafka_settings, topic, cast(Any, table), write)
    try:
        await write([gone, back, removed, of("stale", EvidenceReason.STALE)])
        await write([PartitionRecord(0, removed.key, None)])
        assert await renewal.renew(0) == 0, "they are not old yet"
        later = time.time_ns() // 1_000_000 + RENEW_AFTER_MS + 60_000
        assert await renewal.renew(0, later) == 1
        last = (await written(kafka_settings))[-1]
        assert (last.key, last.value) == (gone.key, gone.value)
    finally:
        await producer.stop()
