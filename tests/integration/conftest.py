"""The services, put together on the session's Kafka."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from service.settings import KafkaSettings
from tests.integration.processes import ADMIN_TOKEN, Service
from tobogganing.local.cluster import Cluster


@pytest.fixture
def kafka_settings(kafka: Cluster, topic_prefix: str) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )


@pytest.fixture(scope="module")
def signing_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
async def processor(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Service]:
    async with Service("processor", kafka_settings, tmp_path, WORKER_NAME="only") as service:
        yield service


@pytest.fixture
async def manager(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_key: str, processor: Service
) -> AsyncIterator[Service]:
    extra = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEY": signing_key,
        "PROCESSOR_READY_URL": processor.url + "/-/ready",
    }
    async with Service("tobogganing.serve", kafka_settings, tmp_path, **extra) as service:
        await service.ready()
        yield service
