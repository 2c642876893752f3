"""Gateways as processes: registrations, submissions, and the frames that they write."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from aiokafka import ConsumerRecord

from contract.frame import Frame, Submission, decode_frame
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.processes import ADMIN_TOKEN, CA_PEM, Service

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
DEADLINE = 3.0


def gateway(settings: KafkaSettings, folder: Path, signing_keys: str, **extra: str) -> Service:
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys, "CA_PEM": CA_PEM}
    return Service("gateway", settings, folder, **(secrets | extra))


@contextlib.asynccontextmanager
async def a_manager(
    settings: KafkaSettings, folder: Path, signing_keys: str, processor: Service, **extra: str
) -> AsyncIterator[Service]:
    """Run gateway and exporter in one process, ready once the processor is."""
    extra = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": signing_keys,
        "PROCESSOR_READY_URL": processor.url + "/-/ready",
    } | extra
    async with Service("tobogganing.manager", settings, folder, **extra) as service:
        await service.wait_until_ready()
        yield service


@contextlib.asynccontextmanager
async def running_gateways(
    settings: KafkaSettings, folder: Path, signing_keys: str, count: int
) -> AsyncIterator[list[Service]]:
    """Run several gateways, and wait until all are ready."""
    async with contextlib.AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(gateway(settings, folder, signing_keys))
            for _ in range(count)
        ]
        for service in services:
            await service.wait_until_ready()
        yield services


async def register(service: Service, collection: str, **body: Any) -> httpx.Response:
    return await service.http.post(f"/api/v1/{collection}/register", json=body, headers=ADMIN)


async def registered(service: Service, id: str) -> dict[str, str]:
    """Register a client and return the headers of its submissions."""
    answer = await register(service, "clients", name=id, type="native", client_id=id)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['api_key']}"}


async def submit(
    service: Service, id: str, headers: dict[str, str], bytes_sent: int
) -> httpx.Response:
    body = {"metrics": {"bytes_sent": bytes_sent}}
    return await service.http.post(f"/api/v1/clients/{id}/metrics", json=body, headers=headers)


async def frames_of(settings: KafkaSettings) -> dict[tuple[int, int], tuple[Frame, int]]:
    """Return all frames with their append times, by partition and offset."""
    frames: dict[tuple[int, int], tuple[Frame, int]] = {}

    def take(partition: int, records: Any) -> None:
        record: ConsumerRecord
        for record in records:
            frames[partition, record.offset] = decode_frame(record.value), record.timestamp

    partitions = range(settings.kafka_partitions)
    async with TopicReader(settings, topics_from(settings).submissions.name, partitions) as reader:
        await reader.read_to_end(take, {})
    return frames


async def in_time(settings: KafkaSettings) -> set[float]:
    """Return the submissions that count."""
    return {
        submission.metrics["bytes_sent"]
        for frame, appended in (await frames_of(settings)).values()
        if not frame.is_late(appended)
        for submission in frame.submissions
    }


def find(frames: dict[tuple[int, int], tuple[Frame, int]], receipt: str) -> Submission:
    partition, offset, index, at = Receipt.parse(receipt)
    frame, appended = frames[partition, offset]
    assert at == appended
    assert not frame.is_late(appended)
    return frame.submissions[index]


async def rotate(service: Service, id: str, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await service.http.post(
        f"/api/v1/clients/{id}/rotate-key", headers=headers, json=body or None
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
