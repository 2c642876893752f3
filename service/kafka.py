"""Kafka: client options from the settings; topics that exist as declared before their use."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from contract.topics import Topic, Topics, declare_topics
from service.settings import KafkaSettings, SettingsError

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_MS = 4_000
"""How long a broker may take to answer: aiokafka's 40 s would wait out a frozen broker."""

METADATA_MAX_AGE_MS = 10_000
"""A client asks only the brokers that it knows where the others are. One that learnt in an outage
of a single broker must soon learn of the rest: else it waits for that one, whoever else is up."""

STOP_WITHIN = 1.0
"""Seconds that a client which only reads gets to close its connections."""


class TopicMismatchError(SettingsError):
    """A topic exists, but not as this installation declares it."""


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
        TopicMismatchError: a topic has other partitions or other timestamps than declared.
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


def _may_pass(error: KafkaError) -> bool:
    """Whether waiting may help: too few brokers for the replicas is also how a cluster starts."""
    return is_temporary(error) or isinstance(error, InvalidReplicationFactorError)


class _NotThereYetError(KafkaError):
    """Metadata does not know a topic that was just created."""

    retriable = True


async def _ensure(settings: KafkaSettings, topics: Topics) -> None:
    async with administration(settings) as admin:
        existing = await _partitions(admin, topics)
        missing = [topic for topic in topics.all() if topic.name not in existing]
        if missing:
            await _create(admin, missing, settings.kafka_replication)
            existing = await _partitions(admin, topics)
        for topic in topics.all():
            if topic.name not in existing:
                raise _NotThereYetError(topic.name)
            _check_partitions(topic, existing[topic.name])
        await _check_settings(admin, topics)


async def _partitions(admin: AIOKafkaAdminClient, topics: Topics) -> dict[str, int]:
    described = await admin.describe_topics([topic.name for topic in topics.all()])
    ready = {}
    for topic in described:
        if topic["error_code"] == 0 and all(p["leader"] >= 0 for p in topic["partitions"]):
            ready[topic["topic"]] = len(topic["partitions"])
    return ready


async def _create(admin: AIOKafkaAdminClient, missing: list[Topic], replication: int) -> None:
    in_sync = {"min.insync.replicas": "2"} if replication >= 3 else {}
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


def _check_partitions(topic: Topic, partitions: int) -> None:
    if partitions != topic.partitions:
        raise TopicMismatchError(
            f"topic {topic.name} has {partitions} partitions, but KAFKA_PARTITIONS asks for "
            f"{topic.partitions}. The number is fixed when an installation starts: set "
            f"KAFKA_PARTITIONS={partitions}, or move to another KAFKA_TOPIC_PREFIX: docs/moving.md."
        )


async def _check_settings(admin: AIOKafkaAdminClient, topics: Topics) -> None:
    """Refuse a topic that breaks promises, and warn of one that makes every start slow.

    Deadlines are compared with append times, so a topic must not have its producers' times.
    """
    segments = {topic.name: topic.settings.get("segment.bytes") for topic in topics.all()}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics.all()]
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(f"topic {name}: {message}")
            settings = {entry[0]: entry[1] for entry in entries}
            if settings.get("message.timestamp.type") != "LogAppendTime":
                raise TopicMismatchError(
                    f"topic {name} must have message.timestamp.type=LogAppendTime: "
                    f"set it with kafka-configs, or let this program create the topic."
                )
            wanted, found = segments[name], settings.get("segment.bytes")
            if wanted and found and int(found) > int(wanted):
                log.warning(
                    f"whoever starts reads all of a segment: set segment.bytes={wanted} with "
                    "kafka-configs",
                    topic=name,
                    segment_bytes=int(found),
                )
