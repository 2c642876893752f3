"""Checks the partitions of topics, and the topic settings that guarantees depend on."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    for_code,
)

from contract.topic_policy import deviations
from contract.topics import Topic, Topics
from service.config.settings import KafkaSettings, SettingsError
from service.plural import counted

log = structlog.get_logger(__name__)

_SET_FOR_TOPIC = 1
"""Source of a setting (DescribeConfigs) that was set for the topic itself, not by a default."""
_NOT_AUTHORIZED = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class TopicMismatchError(SettingsError):
    """A topic exists, but differs from its declaration."""


def in_sync_replicas(replication: int) -> int:
    """Return the number of replicas that must have a record before it is acknowledged."""
    return 2 if replication >= 3 else 1


def check_partitions(
    topic: Topic, partitions: Sequence[Mapping[str, Any]], replication: int
) -> None:
    """Check the number of partitions and replicas of a topic.

    Raises:
        TopicMismatchError: the number of partitions differs, or there are too few replicas.
    """
    if len(partitions) != topic.partitions:
        raise TopicMismatchError(
            f"topic {topic.name} has {counted(len(partitions), 'partition')}, but KAFKA_PARTITIONS "
            f"is {topic.partitions}. The number is fixed when an installation is created: set "
            f"KAFKA_PARTITIONS={len(partitions)}, or move to another KAFKA_TOPIC_PREFIX "
            "(docs/moving.md)"
        )
    replicas = fewest_replicas(partitions)
    if replicas < in_sync_replicas(replication):
        raise TopicMismatchError(
            f"topic {topic.name} has {replicas} replica, but KAFKA_REPLICATION={replication} "
            f"requires {in_sync_replicas(replication)} for each write: add replicas "
            "(Kafka's reassignment), or set KAFKA_REPLICATION=1"
        )


def fewest_replicas(partitions: Sequence[Mapping[str, Any]]) -> int:
    return min(len(partition["replicas"]) for partition in partitions)


async def read_topic_settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Return the settings of a topic.

    Raises:
        KafkaError: Kafka does not respond, or refuses the request.
    """
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((code, message, _, _, entries),) = response.resources
    if code:
        raise for_code(code)(f"topic {topic}: {message}")
    return {entry[0]: entry[1] for entry in entries}


async def alter_topic_settings(
    admin: AIOKafkaAdminClient, topic: str, changes: Mapping[str, str]
) -> None:
    """Set some settings of a topic; its other own settings stay.

    Raises:
        KafkaError: Kafka does not respond, or refuses the change.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    (response,) = await admin.describe_configs([resource])
    ((code, message, _, _, entries),) = response.resources
    if code:
        raise for_code(code)(f"topic {topic}: {message}")
    # The request replaces all of the topic's own settings.
    own = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_FOR_TOPIC}
    changed = ConfigResource(ConfigResourceType.TOPIC, topic, {**own, **changes})
    (altered,) = await admin.alter_configs([changed])
    ((code, message, *_),) = altered.resources
    if code:
        raise for_code(code)(f"topic {topic}: {message}")


async def check_topic_settings(
    admin: AIOKafkaAdminClient,
    settings: KafkaSettings,
    topics: Topics,
    replicas: Mapping[str, int],
) -> None:
    """Refuse topic settings that break a guarantee, and warn of settings that slow down each start.

    Settings that this user may not read cause a warning; the operator must check them.

    Raises:
        TopicMismatchError: with one line for each setting that breaks a guarantee.
    """
    declared = {topic.name: topic for topic in topics.all()}
    in_sync = in_sync_replicas(settings.kafka_replication)
    faults: list[str] = []
    unknown: list[str] = []
    for name, topic in declared.items():
        try:
            found = await read_topic_settings(admin, name)
        except _NOT_AUTHORIZED:
            unknown.append(name)
            continue
        faults += [
            deviation.text() for deviation in deviations(topic, found, replicas[name], in_sync)
        ]
        _warn_of_large_segments(topic, found)
    if unknown:
        log.warning(
            "cannot check topic settings: allow DescribeConfigs, or compare them with "
            "docs/operations.md",
            topics=sorted(unknown),
        )
    if faults:
        raise TopicMismatchError("\n".join(faults))


def _warn_of_large_segments(topic: Topic, found: Mapping[str, str]) -> None:
    wanted, size = topic.settings.get("segment.bytes"), found.get("segment.bytes")
    if wanted and size and int(size) > int(wanted):
        log.warning(
            f"large segments slow each start: set the topic's segment.bytes={wanted}",
            topic=topic.name,
            segment_bytes=int(size),
        )
