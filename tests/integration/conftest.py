"""The services, put together on the session's Kafka."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.integration.frames import PARTITIONS, FrameWriter, frame_writer
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.shared_kafka import SharedKafka
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.secrets import provide_signing_keys


@pytest.fixture
def kafka_settings(kafka: SharedKafka, topic_prefix: str) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    """The same with few partitions, for tests that write frames themselves."""
    return replace(kafka_settings, kafka_partitions=PARTITIONS)


@pytest.fixture
async def frames(settings: KafkaSettings) -> AsyncIterator[FrameWriter]:
    async with frame_writer(settings) as writer:
        yield writer


@pytest.fixture
async def own_kafka(kafka_install: Install, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A broker that a test may break."""
    cluster = Cluster(tmp_path / "kafka", kafka_install)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture
def broken(own_kafka: Cluster, topic_prefix: str) -> KafkaSettings:
    """An installation on a broker whose power may be cut."""
    return KafkaSettings(
        kafka_bootstrap_servers=own_kafka.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=PARTITIONS,
    )


@pytest.fixture
async def compacting(kafka_install: Install, tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    """An installation with one partition on a broker that compacts at once."""
    cluster = Cluster(
        tmp_path / "kafka", kafka_install, properties=lambda _: {"log.cleaner.backoff.ms": 100}
    )
    await cluster.start()
    try:
        yield KafkaSettings(kafka_bootstrap_servers=cluster.bootstrap_servers, kafka_partitions=1)
    finally:
        await cluster.stop()


@pytest.fixture
async def three_brokers(kafka_install: Install, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Brokers that a test may break."""
    cluster = Cluster(tmp_path / "kafka", kafka_install, nodes=3)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture
def signing_keys(tmp_path: Path) -> str:
    """A folder with one signing key."""
    return str(provide_signing_keys(tmp_path, {}))


@pytest.fixture
async def processor(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Service]:
    async with Service("processor", kafka_settings, tmp_path, WORKER_NAME="only") as service:
        yield service


@pytest.fixture
async def manager(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, processor: Service
) -> AsyncIterator[Service]:
    extra = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": signing_keys,
        "PROCESSOR_READY_URL": processor.url + "/-/ready",
    }
    async with Service("tobogganing.manager", kafka_settings, tmp_path, **extra) as service:
        await service.wait_until_ready()
        yield service
