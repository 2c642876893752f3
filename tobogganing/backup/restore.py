"""Restoring a backup into an installation that has lost its registry, or into a new one.

Every step can be repeated: existing entries stay unchanged.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.entity import partition_of
from contract.ledger import is_ledger_key
from contract.registry import decode_record, encode_record
from contract.row import decode_entity_row, encode_row
from contract.topics import processor_group
from processor.changelog.producer import ChangelogProducer
from processor.core.write_batch import NO_HEADERS, ChangelogRecord, split
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client, group_member_count
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tobogganing.backup.diff import (
    EntryStatus,
    StatusCounts,
    as_restored,
    as_successor,
    compare_record,
    compare_row,
)
from tobogganing.backup.file import Backup
from tobogganing.backup.topic_snapshot import RegistrySnapshot, RowSnapshot
from tobogganing.errors import LocalError
from tobogganing.output import Progress

COORDINATOR_TIMEOUT = 30.0
"""Seconds within which Kafka must find the group's coordinator."""
CHUNK = 5_000
"""Records that are acknowledged before more are sent."""


@dataclass
class RestoreReport:
    """The entries written, and the status of all entries afterwards."""

    records_written: int = 0
    rows_written: int = 0
    records: StatusCounts = field(default_factory=StatusCounts)
    rows: StatusCounts = field(default_factory=StatusCounts)

    @property
    def is_good(self) -> bool:
        return self.records.is_good and self.rows.is_good

    def document(self) -> dict[str, Any]:
        return {
            "written": {"records": self.records_written, "rows": self.rows_written},
            "records": self.records.document(),
            "rows": self.rows.document(),
            "faults": self.records.faults + self.rows.faults,
        }


async def restore(
    settings: KafkaSettings, backup: Backup, progress: Progress, *, rows: bool, only_check: bool
) -> RestoreReport:
    """Write the missing entries, unless `only_check`; then compare all of them.

    `progress` counts the entries written or already there, and then those compared.

    Raises:
        LocalError: a processor has started here; it would remove rows written by others.
        BackupError: the backup cannot be read.
        KafkaError: Kafka does not respond; the restore can be repeated.
    """
    report = RestoreReport()
    if not only_check:
        if rows:
            await _require_no_processor(settings)
        report.records_written = await _write_registry(settings, backup, progress)
        if rows:
            report.rows_written = await _write_rows(settings, backup, progress)
    await _compare_registry(settings, backup, report.records, progress)
    if rows:
        await _compare_rows(settings, backup, report.rows, progress)
    return report


async def _require_no_processor(settings: KafkaSettings) -> None:
    group = processor_group(settings.kafka_topic_prefix)
    if await _member_count(settings, group):
        raise LocalError(f"a processor of {group} runs: rows are restored before any is started")
    if await _has_ledger(settings):
        raise LocalError(
            f"a processor has already run under {settings.kafka_topic_prefix}: restore the rows "
            "under another KAFKA_TOPIC_PREFIX, or the registry alone with --registry"
        )


async def _has_ledger(settings: KafkaSettings) -> bool:
    found = False

    def look(_: int, records: Sequence[ConsumerRecord]) -> None:
        nonlocal found
        found = found or any(is_ledger_key(record.key or b"") for record in records)

    topic, partitions = topics_from(settings).entity_state.name, range(settings.kafka_partitions)
    async with TopicReader(settings, topic, partitions) as reader:
        await reader.read_to_end(look, {})
    return found


async def _member_count(settings: KafkaSettings, group: str) -> int:
    deadline = time.monotonic() + COORDINATOR_TIMEOUT
    async with admin_client(settings) as admin:
        while True:
            try:
                return await group_member_count(admin, group)
            except KafkaError:  # a new broker has no coordinator at first
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)


async def _write_registry(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    """Write the missing records, expired ones included.

    Gateways decide about expiry by the cluster's time: by this machine's clock a revoked token
    could become valid again.
    """
    known = await RegistrySnapshot.load(settings)

    def missing() -> Iterator[ChangelogRecord]:
        for entry in backup.records():
            record, key = decode_record(bytes(entry.value)), entry.key.encode()
            current = known.current(key)
            if compare_record(record, current, now=0) is EntryStatus.MISSING:
                yield key, encode_record(as_successor(record, current)), NO_HEADERS
            else:
                progress.add(1)

    topic = topics_from(settings).registry.name
    return await _write(settings, topic, missing(), lambda _: 0, progress)


async def _write_rows(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    def rows() -> Iterator[ChangelogRecord]:
        for row in backup.rows():
            value = encode_row(as_restored(decode_entity_row(bytes(row.value))))
            yield row.key.encode(), value, NO_HEADERS

    def partition(key: bytes) -> int:
        return partition_of(key, settings.kafka_partitions)

    topic = topics_from(settings).entity_state.name
    return await _write(settings, topic, rows(), partition, progress)


async def _write(
    settings: KafkaSettings,
    topic: str,
    records: Iterator[ChangelogRecord],
    partition: Callable[[bytes], int],
    progress: Progress,
) -> int:
    """Write records to the partitions of their keys; return how many."""
    changelog = ChangelogProducer(settings, topic, topics_from(settings).dead_letter.name)
    await changelog.start()
    try:
        count = 0
        while chunk := list(islice(records, CHUNK)):
            spread = _by_partition(chunk, partition)
            await changelog.write({p: split(each) for p, each in spread.items()})
            count += len(chunk)
            progress.add(len(chunk))
        return count
    finally:
        await changelog.stop()


def _by_partition(
    records: Iterable[ChangelogRecord], partition: Callable[[bytes], int]
) -> dict[int, list[ChangelogRecord]]:
    found: dict[int, list[ChangelogRecord]] = {}
    for record in records:
        found.setdefault(partition(record[0]), []).append(record)
    return found


async def _compare_registry(
    settings: KafkaSettings, backup: Backup, counts: StatusCounts, progress: Progress
) -> None:
    known, now = await RegistrySnapshot.load(settings), time.time_ns() // 1_000_000
    for entry in backup.records():
        record = decode_record(bytes(entry.value))
        counts.add(entry.key, compare_record(record, known.current(entry.key.encode()), now))
        progress.add(1)


async def _compare_rows(
    settings: KafkaSettings, backup: Backup, counts: StatusCounts, progress: Progress
) -> None:
    partitions = range(settings.kafka_partitions)
    known = await RowSnapshot.load(settings, partitions)
    for entry in backup.rows():
        key = entry.key.encode()
        value = known.states[partition_of(key, len(partitions))].rows.get(key)
        row = as_restored(decode_entity_row(bytes(entry.value)))
        counts.add(entry.key, compare_row(row, decode_entity_row(value) if value else None))
        progress.add(1)
