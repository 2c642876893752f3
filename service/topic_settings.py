"""Checks that topics are as declared: partitions, and the settings that promises rest on."""

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
from service.settings import KafkaSettings, SettingsError

log = structlog.get_logger(__name__)

_NOT_AUTHORIZED = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class TopicMismatchError(SettingsError):
    """A topic exists, but not as this installation declares it."""


def in_sync_replicas(replication: int) -> int:
    """How many replicas must have a record before it is acknowledged."""
    return 2 if replication >= 3 else 1


def check_partitions(
    topic: Topic, partitions: Sequence[Mapping[str, Any]], replication: int
) -> None:
    """
    Raises:
        TopicMismatchError: there are more or fewer partitions, or too few replicas.
    """
    if len(partitions) != topic.partitions:
        raise TopicMismatchError(
            f"topic {topic.name} has {len(partitions)} partitions, but KAFKA_PARTITIONS asks for "
            f"{topic.partitions}. The number is fixed when an installation starts: set "
            f"KAFKA_PARTITIONS={len(partitions)}, or move to another KAFKA_TOPIC_PREFIX: "
            "docs/moving.md."
        )
    replicas = fewest_replicas(partitions)
    if replicas < in_sync_replicas(replication):
        raise TopicMismatchError(
            f"topic {topic.name} has {replicas} replica, but KAFKA_REPLICATION={replication} needs "
            f"{in_sync_replicas(replication)} for each write: add some with "
            "kafka-reassign-partitions.sh, or set KAFKA_REPLICATION=1"
        )


def fewest_replicas(partitions: Sequence[Mapping[str, Any]]) -> int:
    return min(len(partition["replicas"]) for partition in partitions)


async def check_topic_settings(
    admin: AIOKafkaAdminClient,
    settings: KafkaSettings,
    topics: Topics,
    replicas: Mapping[str, int],
) -> None:
    """Refuse topics that break promises, and warn of those that make every start slow.

    Settings that this user may not read are warned of: whoever made the topics must know them.

    Raises:
        TopicMismatchError: with a line for each setting that breaks a promise.
    """
    declared = {topic.name: topic for topic in topics.all()}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in declared]
    in_sync = in_sync_replicas(settings.kafka_replication)
    faults: list[str] = []
    unknown: list[str] = []
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            error = for_code(code)
            if error in _NOT_AUTHORIZED:
                unknown.append(name)
                continue
            if code:
                raise error(f"topic {name}: {message}")
            found = {entry[0]: entry[1] for entry in entries}
            faults += [
                deviation.text(settings.kafka_bootstrap_servers)
                for deviation in deviations(declared[name], found, replicas[name], in_sync)
            ]
            _warn_of_large_segments(declared[name], found)
    if unknown:
        log.warning(
            "topic settings cannot be checked: allow DescribeConfigs, or compare them with "
            "docs/operations.md",
            topics=sorted(unknown),
        )
    if faults:
        raise TopicMismatchError("\n".join(faults))


def _warn_of_large_segments(topic: Topic, found: Mapping[str, str]) -> None:
    wanted, size = topic.settings.get("segment.bytes"), found.get("segment.bytes")
    if wanted and size and int(size) > int(wanted):
        log.warning(
            f"each start reads all of a segment: set segment.bytes={wanted} with kafka-configs.sh",
            topic=topic.name,
            segment_bytes=int(size),
        )
