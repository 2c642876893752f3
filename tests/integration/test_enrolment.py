"""Agents that enrol by themselves, through real gateways on a real Kafka."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.enrolment import uses
from contract.registry_state import RegistryState
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.command_line import submits
from tests.integration.gateways import ADMIN
from tests.integration.gateways import gateway as gateway_of
from tests.integration.processes import Service

AT_ONCE = 100
"""Requests in flight of one fleet: a thousand connections would overload this machine."""


@pytest.fixture
async def gateway(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Service]:
    async with gateway_of(
        kafka_settings, tmp_path, signing_keys, AUTH_FAILURES_PER_MINUTE="5"
    ) as started:
        await started.wait_until_ready()
        yield started


async def create(gateway: Service, **body: Any) -> tuple[str, str]:
    """Create an enrolment of native clients; return its id and token."""
    answer = await gateway.http.post(
        "/api/v1/enrolments",
        json={"name": "site", "kind": "client", "type": "native", **body},
        headers=ADMIN,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["enrolment_id"], answer.json()["token"]


async def enrol(gateway: Service, token: str, **body: Any) -> httpx.Response:
    return await gateway.http.post(
        "/api/v1/enrol",
        json={"name": "agent", **body},
        headers={"authorization": f"Bearer {token}"},
    )


def nonce(number: int) -> str:
    return f"nonce-of-agent-{number:08d}"


async def show(gateway: Service, id: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/api/v1/enrolments/{id}", headers=ADMIN)
    shown: dict[str, Any] = answer.json()
    return shown


async def registered_with(settings: KafkaSettings, enrolment_id: str) -> tuple[set[str], int]:
    """Clients that the registry topic has of an enrolment, and the uses that were claimed."""
    state = RegistryState()

    def apply(_: int, records: Any) -> None:
        for record in records:
            state.apply(record.offset, record.key, record.value)

    async with TopicReader(settings, topics_from(settings).registry.name, [0]) as reader:
        await reader.read_to_end(apply, {})
    found = {
        record.id
        for record in state.registered("client")
        if record.attributes.get("enrolment_id") == enrolment_id
    }
    enrolment = state.get(f"enrolment:{enrolment_id}".encode())
    assert enrolment is not None
    return found, uses(enrolment)


async def test_a_thousand_agents_that_race_for_a_hundred_uses_get_exactly_those(
    kafka_settings: KafkaSettings, three: list[Service]
) -> None:
    id, token = await create(three[0], max_uses=100)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> httpx.Response:
        async with limit:
            while True:
                answer = await enrol(three[number % 3], token, nonce=nonce(number))
                if answer.status_code != 503:
                    return answer

    answers = await asyncio.gather(*map(one, range(1000)))
    assert Counter(answer.status_code for answer in answers) == {200: 100, 403: 900}
    given = {answer.json()["client_id"] for answer in answers if answer.status_code == 200}
    assert len(given) == 100
    assert await registered_with(kafka_settings, id) == (given, 100)
    shown = await show(three[2], id)
    assert (shown["uses"], shown["max_uses"], shown["state"]) == (100, 100, "exhausted")
    assert shown["last_used_at"]
    for answer in answers:
        if answer.status_code == 200:
            body = answer.json()
            assert await submits(three[0], body["client_id"], body["api_key"]) == 200
    assert [gateway.errors() for gateway in three] == [[], [], []]


async def test_with_gateways_that_are_killed_there_are_never_more(
    kafka_settings: KafkaSettings, three: list[Service]
) -> None:
    id, token = await create(three[0], max_uses=100)
    limit = asyncio.Semaphore(AT_ONCE)
    done = 0
    halfway = asyncio.Event()

    async def one(number: int) -> int:
        nonlocal done
        async with limit:
            for attempt in range(60):
                gateway = three[(number + attempt) % 3]
                with contextlib.suppress(httpx.TransportError):
                    answer = await enrol(gateway, token, nonce=nonce(number))
                    if answer.status_code != 503:
                        done += answer.status_code == 200
                        if done >= 20:
                            halfway.set()
                        return answer.status_code
                await asyncio.sleep(0.02)
            raise AssertionError("no gateway responds")

    async def kill() -> None:
        await halfway.wait()
        await three[1].end(signal.SIGKILL)
        await three[1].start()
        await three[1].wait_until_ready()

    killing = asyncio.create_task(kill())
    statuses = Counter(await asyncio.gather(*map(one, range(400))))
    await killing
    assert set(statuses) == {200, 403}
    found, claimed = await registered_with(kafka_settings, id)
    assert claimed == 100
    assert 20 <= statuses[200] <= len(found) <= 100


async def test_a_response_that_was_lost_is_repeated_once_at_any_gateway(
    three: list[Service],
) -> None:
    id, token = await create(three[0], max_uses=1)
    lost = (await enrol(three[0], token, nonce=nonce(1))).json()
    again = (await enrol(three[1], token, nonce=nonce(1))).json()
    assert again["client_id"] == lost["client_id"]
    assert await submits(three[2], again["client_id"], again["api_key"]) == 200
    assert await submits(three[2], again["client_id"], lost["api_key"]) == 401
    third = await enrol(three[2], token, nonce=nonce(1))
    assert third.status_code == 409
    assert await submits(three[2], again["client_id"], again["api_key"]) == 200
    assert (await show(three[2], id))["uses"] == 1


async def test_a_revoked_enrolment_registers_nobody(
    kafka_settings: KafkaSettings, three: list[Service]
) -> None:
    id, token = await create(three[0])
    limit = asyncio.Semaphore(50)
    revoked = asyncio.Event()
    after: list[int] = []
    given: set[str] = set()

    async def one(number: int) -> None:
        async with limit:
            began_after = revoked.is_set()
            answer = await enrol(three[number % 3], token, nonce=nonce(number))
            assert answer.status_code in (200, 401, 409), answer.text
            if began_after:
                after.append(answer.status_code)
            if answer.status_code == 200:
                given.add(answer.json()["client_id"])

    async def revoke() -> None:
        async with asyncio.timeout(30):
            while len(given) < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        answer = await three[0].http.delete(f"/api/v1/enrolments/{id}", headers=ADMIN)
        assert answer.status_code == 200, answer.text
        revoked.set()

    await asyncio.gather(revoke(), *map(one, range(400)))
    assert set(after) == {401}
    answer = await three[1].http.get(
        "/api/v1/clients", params={"enrolment_id": id, "limit": "1000"}, headers=ADMIN
    )
    assert {client["client_id"] for client in answer.json()["clients"]} == given


async def test_a_site_behind_one_address_enrols_at_once_and_wrong_tokens_are_limited(
    gateway: Service,
) -> None:
    id, token = await create(gateway)
    wrong = [token[:-1], token + "x", "nobody~secret", "nothing", f"{id}~"]
    for each in wrong:
        answer = await enrol(gateway, each)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert (await enrol(gateway, "one more")).status_code == 429
    answers = await asyncio.gather(*(enrol(gateway, token, nonce=nonce(n)) for n in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await enrol(gateway, "another")).status_code == 429
    assert (await show(gateway, id))["uses"] == 60


async def test_an_enrolment_ends_by_the_brokers_clock(gateway: Service) -> None:
    _, token = await create(gateway, expires_in_seconds=2)
    before = await enrol(gateway, token, nonce=nonce(1))
    assert before.status_code == 200, before.text
    async with asyncio.timeout(30):
        number = 2
        while (await enrol(gateway, token, nonce=nonce(number))).status_code == 200:
            number += 1
            await asyncio.sleep(0.1)
    repeated = await enrol(gateway, token, nonce=nonce(1))
    assert repeated.status_code == 200, "its response may have been lost just before the end"
    assert repeated.json()["client_id"] == before.json()["client_id"]
