"""Batches on a real Kafka: accepted items are in the topic, failed ones may be sent again."""

import asyncio
import gzip
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from backports import zstd

from contract.entity import entity_key, partition_of
from service.config.settings import KafkaSettings
from tests.breakable import ON_THREE
from tests.integration.gateways import DEADLINE, find, frames_of, gateway, register
from tests.integration.processes import Service, freeze
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

JSON = {"content-type": "application/json"}
COUNT = 40


class Relay:
    """A relay, and the clients in its scope."""

    def __init__(self, service: Service, key: str) -> None:
        self._service = service
        self._headers = JSON | {"authorization": f"Bearer {key}"}

    @classmethod
    async def of(cls, service: Service) -> "Relay":
        answer = await register(service, "relays", name="R", scope="all")
        assert answer.status_code == 200, answer.text
        for number in range(COUNT):
            id = f"c-{number}"
            answer = await register(service, "clients", name=id, type="native", client_id=id)
            assert answer.status_code == 200, answer.text
        relay = await register(service, "relays", name="R", scope="all")
        return cls(service, relay.json()["api_key"])

    async def post(self, items: list[Any] | bytes, **headers: str) -> httpx.Response:
        content = items if isinstance(items, bytes) else json.dumps(items).encode()
        return await self._service.http.post(
            "/api/v1/metrics", content=content, headers=self._headers | headers
        )


def item(number: int, value: int) -> dict[str, Any]:
    return {"kind": "client", "id": f"c-{number}", "metrics": {"bytes_sent": value}}


@pytest.fixture
async def service(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Service]:
    async with gateway(kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()
        yield service


async def test_an_invalid_item_is_rejected_and_the_others_are_appended(
    service: Service, kafka_settings: KafkaSettings
) -> None:
    relay = await Relay.of(service)
    items = [item(number, number) for number in range(COUNT)]
    items[7] = item(7, -1)
    items[9] = {"kind": "client", "id": "nobody", "metrics": {}}
    body = (await relay.post(items)).json()
    assert [each["index"] for each in body["rejected"]] == [7, 9]
    assert body["accepted"] == COUNT - 2
    frames = await frames_of(kafka_settings)
    found = [find(frames, receipt) for receipt in body["receipts"]]
    expected = [number for number in range(COUNT) if number not in (7, 9)]
    assert [each.metrics["bytes_sent"] for each in found] == expected
    assert [each.id for each in found] == [f"c-{number}" for number in expected]


async def test_decompression_bombs_and_truncated_streams_are_refused(
    service: Service, kafka_settings: KafkaSettings
) -> None:
    relay = await Relay.of(service)
    gzipped = {"content-encoding": "gzip"}
    packed = gzip.compress(json.dumps([item(1, 1)]).encode())
    before = service.resident_bytes()
    bomb = gzip.compress(bytes(1 << 30), 9)  # 1 GiB
    answers = await asyncio.gather(*(relay.post(bomb, **gzipped) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [413] * 4
    assert service.resident_bytes() - before < 200 << 20
    assert (await relay.post(packed[:-1], **gzipped)).status_code == 400
    assert (await relay.post(packed, **{"content-encoding": "br"})).status_code == 415
    assert (await relay.post(packed, **gzipped)).json()["accepted"] == 1
    counted = [
        submission
        for frame, _ in (await frames_of(kafka_settings)).values()
        for submission in frame.submissions
    ]
    assert len(counted) == 1


async def test_ndjson_scope_and_limits(service: Service) -> None:
    """NDJSON with and without compression for a relay with a scope, up to the limits."""
    await Relay.of(service)
    answer = await register(service, "relays", name="S", scope=["c-1", "c-2"])
    relay = Relay(service, answer.json()["api_key"])
    lines = b"\n".join(json.dumps(item(number, number)).encode() for number in range(4))
    ndjson = {"content-type": "application/x-ndjson"}
    for content, coding in ((lines, {}), (zstd.compress(lines), {"content-encoding": "zstd"})):
        body = (await relay.post(content, **ndjson, **coding)).json()
        assert body["accepted"] == len(body["receipts"]) == 2
        assert [each["id"] for each in body["rejected"]] == ["c-0", "c-3"]
    assert (await relay.post([item(1, 1)] * 10_000)).json()["accepted"] == 10_000
    assert (await relay.post([item(1, 1)] * 10_001)).status_code == 413
    assert (await relay.post(b" " * (8 << 20) + b"[]")).status_code == 413


async def test_a_single_submission_may_be_compressed(
    service: Service, kafka_settings: KafkaSettings
) -> None:
    answer = await register(service, "clients", name="P", type="native", client_id="packed")
    headers = JSON | {"authorization": f"Bearer {answer.json()['api_key']}"}
    path, receipts = "/api/v1/clients/packed/metrics", []
    packs: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
    for number, (coding, pack) in enumerate(packs.items()):
        packed = pack(json.dumps({"metrics": {"bytes_sent": number}}).encode())
        coded = headers | {"content-encoding": coding}
        answer = await service.http.post(path, content=packed, headers=coded)
        assert answer.status_code == 200, answer.text
        receipts.append(answer.json()["receipt"])
        answer = await service.http.post(path, content=packed[:-1], headers=coded)
        assert answer.status_code == 400
        bomb = pack(bytes(1 << 20))
        assert (await service.http.post(path, content=bomb, headers=coded)).status_code == 413
    frames = await frames_of(kafka_settings)
    assert [find(frames, each).metrics["bytes_sent"] for each in receipts] == [0, 1]


@ON_THREE
async def test_items_of_a_failed_partition_have_retry(
    three_brokers: Cluster, three_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """One of three brokers is killed, which was the only replica of a partition."""
    extra = {"ANSWER_WITHIN_SECONDS": str(DEADLINE), "KAFKA_REPLICATION": "1"}
    async with gateway(three_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        relay = await Relay.of(service)
        items = [item(number, number) for number in range(COUNT)]
        assert (await relay.post(items)).json()["accepted"] == COUNT
        broker = three_brokers.brokers[-1]
        await broker.kill()
        accepted = set(range(COUNT))
        partial = None
        async with asyncio.timeout(60):
            while partial is None:
                answer = await relay.post(items)
                body = answer.json()
                lost = [each["index"] for each in body["rejected"]]
                assert all(each["retry"] is True for each in body["rejected"])
                assert answer.status_code == (200 if body["accepted"] else 503)
                assert body["accepted"] == len(body["receipts"]) == COUNT - len(lost)
                if 0 < len(lost) < COUNT:
                    partial = set(lost)
        partitions = {partition_of(entity_key("client", f"c-{place}"), 4) for place in partial}
        kept = accepted - partial
        assert not partitions & {
            partition_of(entity_key("client", f"c-{place}"), 4) for place in kept
        }
        broker.launch()
        await three_brokers.wait_until_ready()
        again = [items[place] for place in sorted(partial)]
        async with asyncio.timeout(60):
            while (await relay.post(again)).json()["accepted"] != len(again):
                await pause()


async def test_no_item_of_a_503_batch_is_applied_later(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    extra = {"ANSWER_WITHIN_SECONDS": str(DEADLINE)}
    async with gateway(own_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        relay = await Relay.of(service)
        items = [item(number, 1) for number in range(COUNT)]
        assert (await relay.post(items)).json()["accepted"] == COUNT
        process = own_kafka.brokers[0].process
        assert process is not None
        freeze(process.pid)
        answer = await relay.post([item(number, 2) for number in range(COUNT)])
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        rejected = answer.json()["rejected"]
        assert [each["retry"] for each in rejected] == [True] * COUNT
        os.kill(process.pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            while (await relay.post([item(1, 3)])).json()["accepted"] != 1:
                await pause()
        counted = [
            submission.metrics["bytes_sent"]
            for frame, appended in (await frames_of(own_settings)).values()
            if not frame.is_late(appended)
            for submission in frame.submissions
        ]
        assert sorted(counted)[:COUNT] == [1] * COUNT
        assert set(counted[0:]) <= {1, 3}
