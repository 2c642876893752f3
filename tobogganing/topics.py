"""The topics of an installation: description, deletion, and reading of one topic."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code

from contract.topics import Topic, Topics, processor_group
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, group_member_count
from service.kafka.reader import TopicReader
from service.kafka.topic_settings import fewest_replicas
from service.kafka.topics import topics_from
from tobogganing.errors import LocalError
from tobogganing.time_param import format_time

Row = dict[str, Any]

SESSION = 10.0
"""Seconds after which Kafka has removed a processor that no longer runs from its group."""


def chosen(topics: Topics, prefix: str, names: Sequence[str]) -> list[Topic]:
    """The topics with these names, without the prefix; without names, all of them."""
    return [t for t in topics.all() if not names or t.name.removeprefix(prefix) in names]


async def describe(settings: KafkaSettings) -> list[Row]:
    """One row for each topic that exists: its partitions, and those with a fault.

    Raises:
        KafkaError: Kafka does not respond.
    """
    topics = [topic.name for topic in topics_from(settings).all()]
    async with admin_client(settings) as admin:
        described = await admin.describe_topics(topics)
    return [
        {
            "topic": topic["topic"],
            "partitions": len(topic["partitions"]),
            "replicas": fewest_replicas(topic["partitions"]),
            "leaderless": [p["partition"] for p in topic["partitions"] if p["leader"] < 0],
            "under_replicated": [
                p["partition"]
                for p in topic["partitions"]
                if len(p["isr"]) < len(p["replicas"]) and p["leader"] >= 0
            ],
        }
        for topic in sorted(described, key=lambda topic: topics.index(topic["topic"]))
        if not topic["error_code"]
    ]


async def delete(
    settings: KafkaSettings, names: Sequence[str], confirm: Callable[[list[str]], None]
) -> list[str]:
    """Delete topics of the installation, by exact name; return those that existed.

    `confirm` is called with them first, and may raise.

    Raises:
        LocalError: a processor of the installation runs.
        KafkaError: Kafka does not respond, or refuses the deletion.
    """
    wanted = [t.name for t in chosen(topics_from(settings), settings.kafka_topic_prefix, names)]
    async with admin_client(settings) as admin:
        await _require_no_processor(admin, processor_group(settings.kafka_topic_prefix))
        described = await admin.describe_topics(wanted)
        existing = [t["topic"] for t in described if not t["error_code"]]
        existing.sort(key=wanted.index)
        if existing:
            confirm(existing)
            response = await admin.delete_topics(existing)
            for name, code in response.topic_error_codes:
                error = for_code(code)
                if code and error is not UnknownTopicOrPartitionError:
                    raise error(f"topic {name} was not deleted")
    return existing


async def _require_no_processor(admin: AIOKafkaAdminClient, group: str) -> None:
    """Raise if a processor runs; one that was stopped stays in its group for a session."""
    deadline = time.monotonic() + SESSION
    while await group_member_count(admin, group):
        if time.monotonic() > deadline:
            raise LocalError(f"a processor of {group} runs: stop all services first")
        await asyncio.sleep(0.2)


async def read(
    settings: KafkaSettings, name: str, since: int | None, write: Callable[[Row], None]
) -> None:
    """Pass each record of a topic that exists now to `write`, from `since` (ms) on.

    Raises:
        KafkaError: Kafka does not respond.
    """
    (topic,) = chosen(topics_from(settings), settings.kafka_topic_prefix, [name])

    def write_all(partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in _since(records, since):
            write(_shown(partition, record))

    async with TopicReader(settings, topic.name, range(topic.partitions)) as reader:
        starts = {} if since is None else await reader.offsets_since(since)
        await reader.read_to_end(write_all, starts)


def _since(records: Sequence[ConsumerRecord], since: int | None) -> Iterator[ConsumerRecord]:
    return (record for record in records if since is None or record.timestamp >= since)


def _shown(partition: int, record: ConsumerRecord) -> Row:
    return {
        "partition": partition,
        "offset": record.offset,
        "appended": format_time(record.timestamp),
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "value": None if record.value is None else _value(record.value),
    }


def _value(value: bytes) -> Any:
    """The decoded JSON, or the text of anything else."""
    try:
        return json.loads(value)
    except ValueError:
        return value.decode(errors="replace")
