"""Creates missing topics, and checks existing ones."""

import asyncio
import time
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from contract.topic_policy import IN_SYNC
from contract.topics import Topic, Topics, declare_topics
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, is_temporary
from service.kafka.topic_settings import (
    TopicMismatchError,
    check_partitions,
    check_topic_settings,
    fewest_replicas,
    in_sync_replicas,
    read_topic_settings,
)

log = structlog.get_logger(__name__)


CHECK_INTERVAL = 300.0
"""Seconds between two checks of the topics by a running service."""


def topics_from(settings: KafkaSettings) -> Topics:
    return declare_topics(
        settings.kafka_topic_prefix,
        settings.kafka_partitions,
        settings.submissions_retention_hours,
    )


async def ensure_topics(settings: KafkaSettings, *, timeout: float = 60.0) -> Topics:
    """Create missing topics, wait until their metadata is known, and check the others.

    Waits up to `timeout` seconds for brokers that are starting.

    Raises:
        TopicMismatchError: a topic differs from its declaration, so that a guarantee would not
            hold.
        KafkaError: the brokers cannot be reached, or refuse a request.
    """
    topics = topics_from(settings)
    deadline = time.monotonic() + timeout
    while True:
        try:
            await _ensure(settings, topics)
            return topics
        except KafkaError as error:
            if time.monotonic() > deadline or not _is_transient(error):
                raise
            log.info("waiting for Kafka", reason=repr(error))
            await asyncio.sleep(0.5)


async def milliseconds_setting(settings: KafkaSettings, topic: str, name: str) -> int:
    """Return a topic setting in milliseconds.

    Raises:
        KafkaError: Kafka does not respond, or refuses the request.
    """
    async with admin_client(settings) as admin:
        return int((await read_topic_settings(admin, topic))[name])


def _is_transient(error: KafkaError) -> bool:
    """Return whether waiting may help; too few brokers for the replicas may be a starting
    cluster."""
    return is_temporary(error) or isinstance(error, InvalidReplicationFactorError)


class _TopicNotReadyError(KafkaError):
    """The metadata does not contain a topic that was just created."""

    retriable = True


async def _ensure(settings: KafkaSettings, topics: Topics) -> None:
    async with admin_client(settings) as admin:
        existing = await _described(admin, topics)
        missing = [topic for topic in topics.all() if topic.name not in existing]
        if missing:
            await _create(admin, missing, settings.kafka_replication)
        await _check(admin, settings, topics)


async def _check(admin: AIOKafkaAdminClient, settings: KafkaSettings, topics: Topics) -> None:
    existing = await _described(admin, topics)
    for topic in topics.all():
        if topic.name not in existing:
            raise _TopicNotReadyError(topic.name)
        check_partitions(topic, existing[topic.name], settings.kafka_replication)
    replicas = {name: fewest_replicas(partitions) for name, partitions in existing.items()}
    await check_topic_settings(admin, settings, topics, replicas)


async def watch_topics(settings: KafkaSettings, interval: float = CHECK_INTERVAL) -> None:
    """Log when a topic setting is changed so that a guarantee no longer holds. Runs until
    cancelled.

    The service continues to run; at its next start it would refuse the topic.
    """
    topics = topics_from(settings)
    last_fault = ""
    while True:
        await asyncio.sleep(interval)
        try:
            async with admin_client(settings) as admin:
                await _check(admin, settings, topics)
            fault = ""
        except TopicMismatchError as error:
            fault = str(error)
        except (KafkaError, OSError):  # logged elsewhere
            continue
        if fault and fault != last_fault:
            log.error("a topic was changed and will be refused at the next start", reason=fault)
        last_fault = fault


async def _described(admin: AIOKafkaAdminClient, topics: Topics) -> dict[str, list[dict[str, Any]]]:
    """Return the partitions of existing topics that have a leader.

    A single partition without leader does not prevent a service from starting.
    """
    described = await admin.describe_topics([topic.name for topic in topics.all()])
    return {
        topic["topic"]: topic["partitions"]
        for topic in described
        if topic["error_code"] == 0 and any(p["leader"] >= 0 for p in topic["partitions"])
    }


async def _create(admin: AIOKafkaAdminClient, missing: list[Topic], replication: int) -> None:
    in_sync = {IN_SYNC: str(in_sync_replicas(replication))}
    response = await admin.create_topics(
        [
            NewTopic(
                topic.name, topic.partitions, replication, topic_configs=topic.settings | in_sync
            )
            for topic in missing
        ]
    )
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"cannot create topic {name}: {message}")
        log.info("topic created" if not code else "topic exists", topic=name)
