"""What Kafka reports about source partitions; core/source_history.py compares ledgers with it."""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from contract.history import STOPPED_METADATA
from contract.ledger import LedgerRow
from contract.topics import processor_group
from processor.core.source_history import SourceLogState, is_record, known_epoch, known_topic
from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.leader_epochs import EpochEnd
from service.kafka.aiokafka_compat.topic_details import TopicDetails
from service.kafka.clients import admin_client
from service.kafka.source_reader import SourceReader
from service.kafka.topics import topics_from

log = structlog.get_logger(__name__)

PARTITION_TIMEOUT = 5.0
"""Seconds in which a partition's leader must report it."""


async def collect(reader: SourceReader, ledgers: dict[int, LedgerRow]) -> dict[int, SourceLogState]:
    """Collect the states of all these partitions.

    Raises:
        KafkaError: the information about a partition is incomplete.
    """
    found = await collect_each(reader, ledgers, {})
    if missing := sorted(ledgers.keys() - found.keys()):
        raise KafkaError(f"Kafka's data about partitions {missing} is incomplete")
    return found


async def collect_each(
    reader: SourceReader, ledgers: Mapping[int, LedgerRow], epochs: Mapping[int, int]
) -> dict[int, SourceLogState]:
    """Collect the state of each partition; those with incomplete information are left out.

    `epochs` are the newest leader epochs seen before.
    """
    found: dict[int, SourceLogState] = {}
    try:
        details = await reader.describe()
        stopped = await _stopped(reader.settings, ledgers)
    except (KafkaError, TimeoutError, OSError) as error:
        log.info("could not compare the ledgers with their source", reason=repr(error))
        return {}

    async def collect_one(partition: int) -> None:
        try:
            async with asyncio.timeout(PARTITION_TIMEOUT):
                found[partition] = await _evidence(
                    reader,
                    partition,
                    ledgers[partition],
                    details,
                    epochs.get(partition, -1),
                    stopped.get(partition, ""),
                )
        except (KafkaError, TimeoutError) as error:
            log.info(
                "could not compare a ledger with its source",
                partition=partition,
                reason=repr(error),
            )

    await asyncio.gather(*(collect_one(p) for p in ledgers if details.leader(p).exists))
    if not found:
        return {}
    try:
        after = await reader.describe()
    except (KafkaError, TimeoutError) as error:
        log.info("could not compare the ledgers with their source", reason=repr(error))
        return {}
    if after.id != details.id:
        return {}
    # If the leader has changed since, the responses may be incomplete.
    return {p: each for p, each in found.items() if after.leader(p) == details.leader(p)}


async def _stopped(settings: KafkaSettings, ledgers: Mapping[int, LedgerRow]) -> dict[int, str]:
    """Return why partitions are stopped, from the metadata of the group's commits.

    Only ledgers of an older version need it: after the topic has grown past such a ledger, nothing
    else shows that it was uncertain.
    """
    doubtful = {p for p, each in ledgers.items() if known_topic(each) is None and each.offset >= 0}
    if not doubtful:
        return {}
    topic = topics_from(settings).submissions.name
    async with admin_client(settings) as admin:
        offsets = await admin.list_consumer_group_offsets(
            processor_group(settings.kafka_topic_prefix)
        )
    return {
        tp.partition: committed.metadata.removeprefix(STOPPED_METADATA)
        for tp, committed in offsets.items()
        if tp.topic == topic
        and tp.partition in doubtful
        and (committed.metadata or "").startswith(STOPPED_METADATA)
    }


async def _evidence(
    reader: SourceReader,
    partition: int,
    ledger: LedgerRow,
    details: TopicDetails,
    known: int,
    stopped: str,
) -> SourceLogState:
    epoch = EpochEnd(-1, -1)
    if known_topic(ledger) == details.id and known_epoch(ledger) >= 0:
        epochs = {partition: known_epoch(ledger)}
        epoch = (await reader.epoch_ends(details, epochs, {partition: known}))[partition]
    first, end = await reader.span(partition)

    async def appended(offset: int, *, exactly: bool = True) -> int | None:
        if not first <= offset < end:
            return None
        try:
            record = await reader.record_from(partition, offset, end)
        except OffsetOutOfRangeError:
            return None
        if record is None or (exactly and record.offset != offset):
            return None
        return int(record.timestamp)

    mark = ledger.mark
    has_mark = mark is not None and epoch.offset > mark.offset and is_record(mark)
    is_cut = mark is not None and 0 < epoch.offset < ledger.next_offset
    is_other_topic = known_topic(ledger) not in (None, details.id)
    return SourceLogState(
        topic=details.id,
        first=first,
        end=end,
        leader_epoch=details.leaders[partition].epoch,
        epoch=epoch.epoch,
        epoch_end=epoch.offset,
        marked=await appended(mark.offset) if mark and has_mark else None,
        newest_kept=await appended(epoch.offset - 1) if is_cut else None,
        oldest=await appended(first, exactly=False) if is_other_topic else None,
        stopped=stopped,
    )
