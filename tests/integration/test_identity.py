"""Identity on a real Kafka: changes of one gateway apply to all, and no change is lost."""

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord

from contract.audit import AuditRecord, ChangeOutcome, decode_audit
from contract.registry import RegistryRecord, decode_record, hash_api_key
from contract.registry_state import ApplyResult, RegistryState
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.gateways import (
    ADMIN,
    bearer,
    gateway,
    register,
    registered,
    rotate,
    running_gateways,
    submit,
)
from tests.integration.processes import Service
from tests.integration.shared import shared_services
from tests.waiting import pause

pytestmark = shared_services("identity")

SOON = 1.0
"""Seconds within which every gateway must know a change."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(
    shared_settings: KafkaSettings, shared_folder: Path, shared_signing_keys: str
) -> AsyncIterator[list[Service]]:
    """Three gateways on one Kafka."""
    async with running_gateways(shared_settings, shared_folder, shared_signing_keys, 3) as services:
        yield services


async def until_refused_everywhere(
    services: list[Service], id: str, headers: dict[str, str]
) -> float:
    """Submit with an invalid credential until all gateways refuse it; return the time it took."""
    began = time.monotonic()
    for service in services:
        while (await submit(service, id, headers, 1)).status_code != 401:
            assert time.monotonic() - began < 10, "the credential is still accepted"
            await pause(0.02)
    return time.monotonic() - began


async def test_a_rotation_and_a_removal_take_effect_on_every_gateway_within_a_second(
    three: list[Service],
) -> None:
    for number, (here, _) in enumerate(itertools.product(three, range(4))):
        id = f"rotated-{number}"
        old = await registered(here, id)
        answer = await rotate(three[number % 3], id, old)
        new = bearer(answer.json()["new_api_key"])
        assert await until_refused_everywhere(three, id, old) < SOON
        for service in three:
            assert (await submit(service, id, new, 2)).status_code == 200
        answer = await three[(number + 1) % 3].http.delete(f"/api/v1/clients/{id}", headers=ADMIN)
        assert answer.status_code == 200
        assert await until_refused_everywhere(three, id, new) < SOON


async def test_an_overlap_ends_on_every_gateway(three: list[Service]) -> None:
    old = await registered(three[0], "overlap")
    began = time.monotonic()
    new = bearer((await rotate(three[1], "overlap", old, overlap_seconds=2)).json()["new_api_key"])
    for service in three:
        assert (await submit(service, "overlap", new, 1)).status_code == 200
        if time.monotonic() - began < 1.9:
            assert (await submit(service, "overlap", old, 1)).status_code == 200
    await until_refused_everywhere(three, "overlap", old)
    assert 1.9 < time.monotonic() - began < 2 + SOON
    assert (await submit(three[2], "overlap", new, 1)).status_code == 200


async def test_everything_survives_a_restart(three: list[Service]) -> None:
    kept, gone = await registered(three[0], "kept"), await registered(three[0], "gone")
    new = bearer((await rotate(three[0], "kept", kept)).json()["new_api_key"])
    await three[0].http.delete("/api/v1/clients/gone", headers=ADMIN)
    await three[2].end()
    await three[2].start()
    await three[2].wait_until_ready()
    statuses = [
        (await submit(three[2], id, headers, 1)).status_code
        for id, headers in (("kept", kept), ("kept", new), ("gone", gone))
    ]
    assert statuses == [401, 200, 401]


@dataclass
class Done:
    """A requested change and its response."""

    what: str
    began: float
    ended: float
    status: int
    key: str | None = None


async def play(services: list[Service], id: str, turns: int, dice: random.Random) -> list[Done]:
    """Request concurrent changes of one id through any gateway."""

    async def turn(service: Service, what: str) -> Done:
        began = time.monotonic()
        if what == "register":
            answer = await register(service, "clients", name=id, type="native", client_id=id)
        elif what == "rotate":
            answer = await rotate(service, id, ADMIN)
        else:
            answer = await service.http.delete(f"/api/v1/clients/{id}", headers=ADMIN)
        body = answer.json()
        key = body.get("api_key") or body.get("new_api_key")
        return Done(what, began, time.monotonic(), answer.status_code, key)

    done: list[Done] = []
    for _ in range(turns):
        wanted = dice.choices(("register", "rotate", "remove"), (2, 3, 1), k=3)
        done += await asyncio.gather(*(turn(dice.choice(services), what) for what in wanted))
    return done


async def registry_log(settings: KafkaSettings) -> list[ConsumerRecord]:
    log: list[ConsumerRecord] = []
    topic = topics_from(settings).registry.name
    async with TopicReader(settings, topic, [0]) as reader:
        await reader.read_to_end(lambda _, records: log.extend(records), {})
    return log


def changes_of(log: list[ConsumerRecord]) -> dict[str, list[tuple[int, RegistryRecord]]]:
    """Return the records that were changes, by id, with their offsets."""
    state = RegistryState()
    found: dict[str, list[tuple[int, RegistryRecord]]] = defaultdict(list)
    for record in log:
        before = state.current(record.key)
        if state.apply(record.offset, record.key, record.value) is ApplyResult.CURRENT:
            after = decode_record(record.value)
            is_copy = before is not None and (before.api_keys, before.removed) == (
                after.api_keys,
                after.removed,
            )
            if not is_copy:
                found[after.id].append((record.offset, after))
    return found


async def test_changes_through_three_gateways_have_one_order(
    three: list[Service], shared_settings: KafkaSettings
) -> None:
    """Each change with response 200 is in the order of the topic, and no other change is.

    A change that was requested after the response to another one has a later offset. The final
    state is that of the last change.
    """
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    ids = [f"ordered-{number}" for number in range(12)]
    told = dict(
        zip(
            ids,
            await asyncio.gather(*(play(three, id, 8, dice) for id in ids)),
            strict=True,
        )
    )
    statuses = {(each.what, each.status) for done in told.values() for each in done}
    assert statuses <= {
        ("register", 200),
        ("register", 409),
        ("rotate", 200),
        ("rotate", 404),
        ("rotate", 409),
        ("remove", 200),
        ("remove", 404),
        ("remove", 409),
    }
    changes = changes_of(await registry_log(shared_settings))
    for id, done in told.items():
        place = {digest: offset for offset, record in changes[id] for digest in record.api_keys}
        given = {hash_api_key(each.key) for each in done if each.key is not None}
        assert given == place.keys()
        keyed = [each for each in done if each.key is not None]
        for first, second in itertools.permutations(keyed, 2):
            if first.ended < second.began:
                assert place[_digest(first)] < place[_digest(second)]

        last = changes[id][-1][1]
        valid = None if last.removed else last.api_keys[0]
        for service in three:
            for each in keyed:
                assert each.key is not None
                answer = await submit(service, id, bearer(each.key), 1)
                assert answer.status_code == (200 if _digest(each) == valid else 401)
            shown = await service.http.get(f"/api/v1/clients/{id}", headers=ADMIN)
            assert shown.status_code == (404 if last.removed else 200)


def _digest(done: Done) -> str:
    assert done.key is not None
    return hash_api_key(done.key)


async def test_clusters_and_headends_are_managed_through_any_gateway(
    three: list[Service],
) -> None:
    a, b, c = three
    body = {"name": "k", "region": "eu", "datacenter": "d", "cluster_id": "k"}
    assert (await register(a, "clusters", **body)).status_code == 200
    made = await register(b, "headends", name="h", cluster_id="k", headend_id="h")
    assert made.status_code == 200, made.text
    for service in three:
        listed = await service.http.get("/api/v1/headends?cluster_id=k", headers=ADMIN)
        assert [each["headend_id"] for each in listed.json()["headends"]] == ["h"]
        clusters = (await service.http.get("/api/v1/clusters", headers=ADMIN)).json()
        assert [each["headends"] for each in clusters["clusters"]] == [1]
    assert (await c.http.delete("/api/v1/clusters/k", headers=ADMIN)).status_code == 409

    key = bearer(made.json()["api_key"])
    rotated = await c.http.post("/api/v1/headends/h/rotate-key", headers=key)
    assert rotated.status_code == 200
    asked = {"node_id": "h", "node_type": "headend", "api_key": made.json()["api_key"]}
    assert (await a.http.post("/api/v1/auth/token", json=asked)).status_code == 401
    asked["api_key"] = rotated.json()["new_api_key"]
    token = (await b.http.post("/api/v1/auth/token", json=asked)).json()["access_token"]
    for service in three:
        answer = await service.http.post(
            "/api/v1/headends/h/metrics", headers=bearer(token), json={"metrics": {}}
        )
        assert answer.status_code == 200, answer.text

    assert (await a.http.delete("/api/v1/headends/h", headers=ADMIN)).json()["receipt"]
    assert (await b.http.delete("/api/v1/clusters/k", headers=ADMIN)).json() == {"cluster_id": "k"}
    for service in three:
        for path in ("/api/v1/headends/h", "/api/v1/clusters/k"):
            assert (await service.http.get(path, headers=ADMIN)).status_code == 404
        answer = await service.http.post(
            "/api/v1/headends/h/metrics", headers=bearer(token), json={"metrics": {}}
        )
        assert answer.status_code == 404


async def test_the_audit_topic_records_every_change_and_its_actor(
    three: list[Service], shared_settings: KafkaSettings
) -> None:
    key = await registered(three[0], "audited")
    rotated = await rotate(three[1], "audited", key)
    assert (
        await register(three[2], "clients", name="x", type="native", client_id="audited")
    ).is_error
    await three[2].http.delete("/api/v1/clients/audited", headers=ADMIN)
    records: list[AuditRecord] = []
    values: list[bytes] = []

    def take(_: int, batch: Any) -> None:
        values.extend(record.value for record in batch)
        records.extend(decode_audit(record.value) for record in batch)

    async with TopicReader(shared_settings, topics_from(shared_settings).audit.name, [0]) as reader:
        await reader.read_to_end(take, {})
    records = [each for each in records if each.target == "client:audited"]
    assert [(each.actor, each.action, each.outcome) for each in records] == [
        ("admin", "register", ChangeOutcome.ALLOWED),
        ("client:audited", "rotate-key", ChangeOutcome.ALLOWED),
        ("admin", "register", ChangeOutcome.ALLOWED),
        ("admin", "register", ChangeOutcome.REFUSED),
        ("admin", "remove", ChangeOutcome.ALLOWED),
    ]
    assert {each.address for each in records} == {"127.0.0.1"}
    secret = rotated.json()["new_api_key"].encode()
    assert not any(secret in value for value in values)
    for service in three:
        assert secret.decode() not in service.log()
    assert '"action":"rotate-key"' in three[1].log()


@pytest.mark.asyncio(loop_scope="function")
async def test_a_removed_client_has_no_series_after_its_receipt(
    manager: Service, kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """Even if another gateway accepts submissions during the removal."""
    async with gateway(kafka_settings, tmp_path, signing_keys) as other:
        await other.wait_until_ready()
        headers = await registered(manager, "gone")
        stays = await registered(manager, "stays")
        receipts = [
            (await submit(manager, id, key, 1)).json()["receipt"]
            for id, key in (("gone", headers), ("stays", stays))
        ]
        assert 'client_id="gone"' in (await manager.scrape(*receipts)).text

        going = asyncio.Event()

        async def keep_submitting() -> list[str]:
            accepted: list[str] = []
            while True:
                answer = await submit(other, "gone", headers, 2)
                if answer.status_code != 200:
                    assert answer.status_code == 401
                    return accepted
                accepted.append(answer.json()["receipt"])
                going.set()

        submitting = asyncio.create_task(keep_submitting())
        await going.wait()
        answer = await manager.http.delete("/api/v1/clients/gone", headers=ADMIN)
        assert answer.status_code == 200
        scrape = await manager.scrape(answer.json()["receipt"])
        assert 'client_id="gone"' not in scrape.text
        assert 'client_id="stays"' in scrape.text
        accepted = await submitting
        for receipts in (accepted, accepted[-1:]):
            assert 'client_id="gone"' not in (await manager.scrape(*receipts)).text

        again = await registered(other, "gone")
        receipt = (await submit(other, "gone", again, 7)).json()["receipt"]
        assert 'client_id="gone"' in (await manager.scrape(receipt)).text
