"""The services on the session's Kafka."""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from tests.breakable import BreakableKafka, breakable_kafka, needs_three
from tests.conftest import fresh_topic_prefix
from tests.integration.frames import PARTITIONS, FrameWriter, frame_writer
from tests.integration.gateways import a_manager, running_gateways
from tests.integration.processes import Service
from tests.shared_kafka import SharedKafka
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.secrets import provide_signing_keys


@pytest.fixture
def kafka_settings(kafka: SharedKafka, topic_prefix: str) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )


@pytest.fixture(scope="module")
def shared_settings(kafka: SharedKafka) -> KafkaSettings:
    """One installation for all tests of a module (tests.integration.shared)."""
    return KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic_prefix=fresh_topic_prefix()
    )


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared_signing_keys(shared_folder: Path) -> str:
    """A folder with one signing key."""
    return str(provide_signing_keys(shared_folder, {}))


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    """The same with few partitions, for tests that write frames themselves."""
    return replace(kafka_settings, kafka_partitions=PARTITIONS)


@pytest.fixture
async def frames(settings: KafkaSettings) -> AsyncIterator[FrameWriter]:
    async with frame_writer(settings) as writer:
        yield writer


@pytest.fixture(scope="session")
def one_breakable(
    kafka_install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BreakableKafka]:
    with breakable_kafka(tmp_path_factory.mktemp("kafka"), kafka_install, nodes=1) as kafka:
        yield kafka


_three = pytest.StashKey[BreakableKafka]()


@pytest.fixture(scope="session")
def three_breakable(
    request: pytest.FixtureRequest,
    kafka_install: Install,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BreakableKafka]:
    with breakable_kafka(tmp_path_factory.mktemp("kafka"), kafka_install, nodes=3) as kafka:
        request.config.stash[_three] = kafka
        yield kafka


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Stop the three brokers after the last test that needs them: idle, they take a tenth of a
    core."""
    result = yield
    if needs_three(item) and not needs_three(nextitem) and _three in item.config.stash:
        asyncio.run(item.config.stash[_three].stop())
    return result


@pytest.fixture
async def own_kafka(one_breakable: BreakableKafka) -> AsyncIterator[Cluster]:
    """A broker that a test may kill, freeze, and cut logs of."""
    async with one_breakable.lent() as cluster:
        yield cluster


@pytest.fixture
async def three_brokers(three_breakable: BreakableKafka) -> AsyncIterator[Cluster]:
    """Brokers that a test may kill and freeze; mark such a test with `ON_THREE`."""
    async with three_breakable.lent() as cluster:
        yield cluster


@pytest.fixture
def own_settings(own_kafka: Cluster, topic_prefix: str) -> KafkaSettings:
    """An installation on `own_kafka`."""
    return KafkaSettings(
        kafka_bootstrap_servers=own_kafka.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )


@pytest.fixture
def three_settings(three_brokers: Cluster, topic_prefix: str) -> KafkaSettings:
    """An installation on `three_brokers`."""
    return KafkaSettings(
        kafka_bootstrap_servers=three_brokers.bootstrap_servers, kafka_topic_prefix=topic_prefix
    )


@pytest.fixture
def broken(own_settings: KafkaSettings) -> KafkaSettings:
    """The same as `own_settings` with few partitions, for tests that write frames themselves."""
    return replace(own_settings, kafka_partitions=PARTITIONS)


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
    async with a_manager(kafka_settings, tmp_path, signing_keys, processor) as service:
        yield service


@pytest.fixture
async def pair(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[tuple[Service, Service]]:
    """Two gateways on one Kafka."""
    async with running_gateways(kafka_settings, tmp_path, signing_keys, 2) as (a, b):
        yield a, b


@pytest.fixture
async def three(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[list[Service]]:
    """Three gateways on one Kafka."""
    async with running_gateways(kafka_settings, tmp_path, signing_keys, 3) as services:
        yield services
