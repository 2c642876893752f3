"""A gateway whose clock is wrong by a day affects neither other gateways nor itself."""

import contextlib
import datetime
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from contract.entity import entity_key
from contract.registry import RECORD_VERSION, REVOCATION, RegistryRecord, encode_record
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from
from tests.conftest import fresh_topic_prefix
from tests.integration.gateways import ADMIN, registered, rotate
from tests.integration.gateways import submit as submit_by_key
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.shared import shared_services
from tests.integration.test_identity import registry_log
from tests.integration.test_tokens import headend, jti_of, revoke, submit, token
from tests.integration.test_tokens import rotate as rotate_signing_key
from tests.shared_kafka import SharedKafka
from tests.waiting import eventually
from tobogganing.devstack.secrets import provide_signing_keys
from tools import debian

pytestmark = shared_services("wrong_clocks")

OFF = 25 * 3600.0
"""Seconds: longer than a token is valid."""


@dataclass
class Pair:
    """Two gateways on one Kafka; the second one's clock is wrong."""

    settings: KafkaSettings
    right: Service
    wrong: Service

    async def sweep(self) -> None:
        """Wait until expired records were dropped, by writing such a record."""
        id = f"over-{time.monotonic_ns()}"
        record = RegistryRecord(RECORD_VERSION, REVOCATION, id, 1, id, expires_at_ms=1)
        producer = AIOKafkaProducer(**client_options(self.settings), acks="all")
        await producer.start()
        try:
            topic = topics_from(self.settings).registry.name
            await producer.send_and_wait(topic, encode_record(record), key=record.key, partition=0)
        finally:
            await producer.stop()

        async def is_dropped() -> bool:
            return await self.is_dropped(REVOCATION, id)

        # Both check for expired records several times as often.
        for _ in range(2):
            await eventually(is_dropped)

    async def is_dropped(self, kind: str, id: str) -> bool:
        key = entity_key(kind, id)
        return any(
            record.key == key and record.value is None
            for record in await registry_log(self.settings)
        )

    async def statuses(self, id: str, text: str) -> list[int]:
        return [await submit(service, id, text) for service in (self.right, self.wrong)]

    async def until_refused(self, id: str, text: str) -> None:
        async def is_refused() -> bool:
            return await self.statuses(id, text) == [401, 401]

        await eventually(is_refused)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[OFF, -OFF], ids=["ahead", "behind"]
)
async def pair(
    request: pytest.FixtureRequest, kafka: SharedKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    (folder,) = debian.unpacked("libfaketime")
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=fresh_topic_prefix()
    )
    folder_of_pair = tmp_path_factory.mktemp("pair")
    signing_keys = str(provide_signing_keys(folder_of_pair, {}))
    offset = folder_of_pair / "offset"
    offset.write_text(f"{request.param:+.0f}")
    faked = {
        "LD_PRELOAD": str(next(folder.rglob("libfaketime.so.1"))),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    common = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    module = "tests.integration.sweeping_gateway"
    async with contextlib.AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(
                Service(module, settings, folder_of_pair, **(common | extra))
            )
            for extra in ({}, faked)
        ]
        for service in services:
            await service.wait_until_ready()
        yield Pair(settings, *services)


async def test_tokens_of_either_gateway_are_valid_on_both_until_revoked(pair: Pair) -> None:
    for number, (here, there) in enumerate(
        ((pair.right, pair.wrong), (pair.wrong, pair.right), (pair.wrong, pair.wrong))
    ):
        id = f"h-{number}"
        api_key = await headend(here, id)
        lost, kept = [await token(here, id, api_key) for _ in range(2)]
        assert await pair.statuses(id, lost) == [200, 200]
        assert await pair.statuses(id, kept) == [200, 200]
        assert (await revoke(there, ADMIN, jti=jti_of(lost))).status_code == 200
        await pair.until_refused(id, lost)
        await pair.sweep()
        assert not await pair.is_dropped(REVOCATION, jti_of(lost))
        assert await pair.statuses(id, lost) == [401, 401]
        assert await pair.statuses(id, kept) == [200, 200]


async def test_reported_times_are_those_of_the_brokers(pair: Pair) -> None:
    api_key = await headend(pair.right, "timed")
    body = {"node_id": "timed", "node_type": "headend", "api_key": api_key}
    answer = await pair.wrong.http.post("/api/v1/auth/token", json=body)
    expires = datetime.datetime.fromisoformat(answer.json()["expires_at"]).timestamp()
    assert abs(expires - time.time() - 24 * 3600) < 60
    headers = await registered(pair.wrong, "c")
    for age in (60, 0):
        sample = {"metrics": {"bytes_sent": 1}, "timestamp": time.time() - age}
        path = "/api/v1/clients/c/metrics"
        assert (await pair.wrong.http.post(path, json=sample, headers=headers)).status_code == 200


async def test_keys_with_an_overlap_are_valid_on_both_gateways(pair: Pair) -> None:
    for number, here in enumerate((pair.right, pair.wrong)):
        id = f"overlap-{number}"
        old = await registered(here, id)
        assert (await rotate(here, id, old, overlap_seconds=600)).status_code == 200
        short = await registered(here, f"{id}-short")
        assert (await rotate(here, f"{id}-short", short, overlap_seconds=1)).status_code == 200
        for service in (pair.right, pair.wrong):
            assert (await submit_by_key(service, id, old, 1)).status_code == 200

            async def is_refused(
                service: Service = service, id: str = id, short: dict[str, str] = short
            ) -> bool:
                answer = await submit_by_key(service, f"{id}-short", short, 1)
                return answer.status_code == 401

            await eventually(is_refused)


async def test_old_signing_keys_and_removals_are_kept_as_long_as_needed(pair: Pair) -> None:
    api_key = await headend(pair.right, "h")
    old = await token(pair.right, "h", api_key)
    for service in (pair.wrong, pair.right):
        assert (await rotate_signing_key(service)).status_code == 200
        await pair.sweep()
        assert await pair.statuses("h", old) == [200, 200]
        id = f"removed-{service.port}"
        headers = await registered(service, id)
        assert (
            await service.http.delete(f"/api/v1/clients/{id}", headers=ADMIN)
        ).status_code == 200
        await pair.sweep()
        assert not await pair.is_dropped("client", id)
        again = await registered(service, id)
        for each in (pair.right, pair.wrong):
            assert (await submit_by_key(each, id, headers, 1)).status_code == 401
            assert (await submit_by_key(each, id, again, 1)).status_code == 200
