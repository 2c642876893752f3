"""Changes the settings of existing topics to those that the services require."""

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from contract.topic_policy import deviations
from contract.topics import HOUR_MS, Topic
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicOffsets
from service.kafka.topic_settings import (
    TopicMismatchError,
    alter_topic_settings,
    fewest_replicas,
    in_sync_replicas,
    read_topic_settings,
)
from service.kafka.topics import topics_from
from tobogganing.backup.topic_snapshot import read_ledgers

RETENTION = "retention.ms"
PATIENCE = 10.0
"""Seconds within which the brokers must report a change."""


class TopicChange(NamedTuple):
    """A changed setting of a topic."""

    topic: str
    setting: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.topic}  {self.setting}: {self.before} -> {self.after}"


async def alter_topics(settings: KafkaSettings, *, shorten: bool = True) -> list[TopicChange]:
    """Repair every setting that the services refuse; with `shorten`, also set a longer retention
    of submissions to SUBMISSIONS_RETENTION_HOURS. Missing topics are ignored.

    Raises:
        TopicMismatchError: a shorter retention would delete submissions that no processor has read.
        KafkaError: Kafka does not respond, or refuses a request.
    """
    topics = topics_from(settings)
    changes: list[TopicChange] = []
    async with admin_client(settings) as admin:
        described = await admin.describe_topics([topic.name for topic in topics.all()])
        partitions = {each["topic"]: each["partitions"] for each in described if each["partitions"]}
        for topic in topics.all():
            if topic.name not in partitions:
                continue
            found = await read_topic_settings(admin, topic.name)
            replicas = fewest_replicas(partitions[topic.name])
            in_sync = in_sync_replicas(settings.kafka_replication)
            wanted = {
                each.setting: each.wanted for each in deviations(topic, found, replicas, in_sync)
            }
            retention = topic.settings.get(RETENTION)
            if shorten and topic == topics.submissions and found[RETENTION] != retention:
                wanted[RETENTION] = topic.settings[RETENTION]
                if _is_shorter(wanted[RETENTION], found[RETENTION]):
                    await _check_lag(settings, topic)
            if wanted:
                await _alter(admin, topic.name, wanted)
                changes += [TopicChange(topic.name, s, found[s], v) for s, v in wanted.items()]
    return changes


def _is_shorter(wanted: str, found: str) -> bool:
    return int(found) < 0 or int(wanted) < int(found)


async def _check_lag(settings: KafkaSettings, topic: Topic) -> None:
    """Check that what the new retention deletes was read.

    Raises:
        TopicMismatchError: it was not read, or that is unknown.
    """
    partitions = range(settings.kafka_partitions)
    ledgers = await read_ledgers(settings, partitions)
    async with TopicOffsets(settings, topic.name, partitions) as offsets:
        ends = await offsets.end_offsets()
    oldest = time.time() * 1000 - int(topic.settings[RETENTION]) + HOUR_MS
    behind = [
        partition
        for partition, ledger in ledgers.items()
        if ledger.next_offset < ends[partition] and ledger.newest < oldest
    ]
    if behind:
        raise TopicMismatchError(
            f"topic {topic.name}: a shorter retention would delete submissions that no processor "
            f"has read, in partitions {', '.join(map(str, behind))}: start the processors first"
        )


async def _alter(admin: AIOKafkaAdminClient, topic: str, wanted: Mapping[str, str]) -> None:
    """Change settings of a topic, and wait until the brokers report them."""
    await alter_topic_settings(admin, topic, wanted)
    async with asyncio.timeout(PATIENCE):
        while not wanted.items() <= (await read_topic_settings(admin, topic)).items():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
