"""Kafka: client options from the settings; topics that exist as declared before their use."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from contract.topic_policy import IN_SYNC
from contract.topics import Topic, Topics, declare_topics
from service.settings import KafkaSettings
from service.topic_settings import (
    TopicMismatchError,
    check_partitions,
    check_topic_settings,
    describe_topic,
    fewest_replicas,
    in_sync_replicas,
)

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_MS = 4_000
"""How long a broker may take to answer: aiokafka's 40 s would wait out a frozen broker."""

METADATA_MAX_AGE_MS = 10_000
"""A client asks only the brokers that it knows where the others are. One that learnt in an outage
of a single broker must soon learn of the rest: else it waits for that one, whoever else is up."""

LOOK_INTERVAL = 300.0
"""Seconds between two checks of the topics of a service that runs."""

STOP_WITHIN = 1.0
"""Seconds that a client which only reads gets to close its connections."""


def topics_of(settings: KafkaSettings) -> Topics:
    return declare_topics(settings.kafka_topic_prefix, settings.kafka_partitions)


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client of this process is made with."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl_context(settings)
    if "SASL" in settings.kafka_security_protocol:
        password = settings.kafka_sasl_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.reveal() if password else None,
        }
    return options


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """TLS towards the brokers, with a client certificate where one is configured."""
    context: ssl.SSLContext = create_ssl_context(
        cafile=settings.kafka_ssl_cafile,
        certfile=settings.kafka_ssl_certfile,
        keyfile=settings.kafka_ssl_keyfile,
    )
    return context


async def stopped(stopping: Awaitable[None]) -> None:
    """Wait until a client that only reads has stopped, or for STOP_WITHIN.

    With TLS each side tells the other of the end, and may wait 30 s to be told.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_WITHIN):
            await stopping


@contextlib.asynccontextmanager
async def administration(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that describes and changes what Kafka has."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def members_of(admin: AIOKafkaAdminClient, group: str) -> int:
    """Number of members of a consumer group, as its coordinator says.

    Raises:
        KafkaError: there is no coordinator now, or it has not read yet what it knows of the group.
    """
    (answer,) = await admin.describe_consumer_groups([group])
    (described,) = answer.to_object()["groups"]
    if described["error_code"]:
        raise for_code(described["error_code"])()
    return len(described["members"])


def is_temporary(error: KafkaError) -> bool:
    """Tell whether the same request may succeed later; aiokafka calls no timeout retriable."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)


async def ensure_topics(settings: KafkaSettings, *, patience: float = 60.0) -> Topics:
    """Create the topics that are missing, wait until their metadata is known, check the others.

    Waits up to `patience` seconds for brokers that are still starting.

    Raises:
        TopicMismatchError: a topic is not as declared, so that a promise would not hold.
        KafkaError: the brokers were not to be reached, or refused.
    """
    topics = topics_of(settings)
    deadline = time.monotonic() + patience
    while True:
        try:
            await _ensure(settings, topics)
            return topics
        except KafkaError as error:
            if time.monotonic() > deadline or not _may_pass(error):
                raise
            log.info("waiting for Kafka", reason=repr(error))
            await asyncio.sleep(0.5)


async def milliseconds_setting(settings: KafkaSettings, topic: str, name: str) -> int:
    """Read a setting of a topic that is a time in milliseconds.

    Raises:
        KafkaError: Kafka does not answer, or refuses.
    """
    async with administration(settings) as admin:
        return int((await describe_topic(admin, topic))[name])


def _may_pass(error: KafkaError) -> bool:
    """Whether waiting may help: too few brokers for the replicas is also how a cluster starts."""
    return is_temporary(error) or isinstance(error, InvalidReplicationFactorError)


class _NotThereYetError(KafkaError):
    """Metadata does not know a topic that was just created."""

    retriable = True


async def _ensure(settings: KafkaSettings, topics: Topics) -> None:
    async with administration(settings) as admin:
        existing = await _described(admin, topics)
        missing = [topic for topic in topics.all() if topic.name not in existing]
        if missing:
            await _create(admin, missing, settings.kafka_replication)
        await _check(admin, settings, topics)


async def _check(admin: AIOKafkaAdminClient, settings: KafkaSettings, topics: Topics) -> None:
    existing = await _described(admin, topics)
    for topic in topics.all():
        if topic.name not in existing:
            raise _NotThereYetError(topic.name)
        check_partitions(topic, existing[topic.name], settings.kafka_replication)
    replicas = {name: fewest_replicas(partitions) for name, partitions in existing.items()}
    await check_topic_settings(admin, settings, topics, replicas)


async def watch_topics(settings: KafkaSettings, interval: float = LOOK_INTERVAL) -> None:
    """Log, for ever, when somebody changes a topic so that a promise does not hold any more.

    The service runs on: at its next start it would refuse.
    """
    topics = topics_of(settings)
    said = ""
    while True:
        await asyncio.sleep(interval)
        try:
            async with administration(settings) as admin:
                await _check(admin, settings, topics)
            fault = ""
        except TopicMismatchError as error:
            fault = str(error)
        except (KafkaError, OSError):  # others say so
            continue
        if fault and fault != said:
            log.error("a topic was changed: the next start will refuse it", reason=fault)
        said = fault


async def _described(admin: AIOKafkaAdminClient, topics: Topics) -> dict[str, list[dict[str, Any]]]:
    """Partitions of the topics that are there and have leaders.

    One that has lost its leader keeps no service from its start: the others serve.
    """
    described = await admin.describe_topics([topic.name for topic in topics.all()])
    return {
        topic["topic"]: topic["partitions"]
        for topic in described
        if topic["error_code"] == 0 and any(p["leader"] >= 0 for p in topic["partitions"])
    }


async def _create(admin: AIOKafkaAdminClient, missing: list[Topic], replication: int) -> None:
    in_sync = {IN_SYNC: str(in_sync_replicas(replication))}
    answer = await admin.create_topics(
        [
            NewTopic(
                topic.name, topic.partitions, replication, topic_configs=topic.settings | in_sync
            )
            for topic in missing
        ]
    )
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"topic {name} could not be created: {message}")
        log.info("topic created" if not code else "topic exists", topic=name)
