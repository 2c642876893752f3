"""Reading the submissions topic up to where the ledger is, to count it again."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRecord

from service.kafka import topics_of
from service.reader import TopicReader
from service.settings import KafkaSettings
from tobogganing.commands.recount import Recount
from tobogganing.local.errors import LocalError
from tobogganing.local.progress import Progress, counted


async def recount(
    settings: KafkaSettings, ledgers: Sequence[Mapping[str, Any]]
) -> dict[int, Recount]:
    """Count every record that is left of what the ledgers cover, in bounded memory.

    Raises:
        LocalError: the ledgers are of another installation.
        KafkaError: Kafka does not answer, or deleted what was about to be read.
    """
    if any(each["partition"] >= settings.kafka_partitions for each in ledgers):
        raise LocalError(
            f"the exporter has more partitions than the {settings.kafka_partitions} of this Kafka: "
            "check --url, KAFKA_BOOTSTRAP_SERVERS and KAFKA_TOPIC_PREFIX"
        )
    partitions = [each["partition"] for each in ledgers]
    topic = topics_of(settings).submissions.name
    async with TopicReader(settings, topic, partitions) as reader:
        firsts, ends = await reader.beginnings(), await reader.ends()
        recounts = {}
        for each in ledgers:
            partition, covered = each["partition"], each["offset"] + 1
            missing = covered > ends[partition]
            end = min(covered, ends[partition])
            recounts[partition] = Recount(
                partition,
                min(firsts[partition], end),
                end,
                missing,
                histories=each.get("histories", 1),
            )
        total = sum(each.end - each.first for each in recounts.values())
        with Progress("records", total, sys.stderr, counted) as progress:
            await _read(reader, recounts, progress)
    return recounts


async def _read(reader: TopicReader, recounts: dict[int, Recount], progress: Progress) -> None:
    def take(partition: int, records: Sequence[ConsumerRecord]) -> None:
        into = recounts[partition]
        covered = [record for record in records if record.offset < into.end]
        for record in covered:
            into.count(record.value, record.timestamp)
        progress.add(len(covered))

    reader.seek({partition: each.first for partition, each in recounts.items()})
    unread = {partition for partition, each in recounts.items() if each.first < each.end}
    while unread:
        await reader.poll(take, unread)
        unread = {p for p in unread if await reader.position(p) < recounts[p].end}
