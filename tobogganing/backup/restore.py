"""Restoring a backup: into an installation that has lost its registry, or into a new one.

Every step may be done again: what is there already is left alone.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from contract.frame import partition_of
from contract.registry import decode_record
from contract.row import decode_entity_row
from service.config.settings import KafkaSettings
from tobogganing.backup.diff import StatusCounts, as_restored, compare_record, compare_row
from tobogganing.backup.file import Backup
from tobogganing.backup.preflight import require_no_processor
from tobogganing.backup.topic_snapshot import RegistrySnapshot, RowSnapshot
from tobogganing.backup.topic_writer import write_registry, write_rows
from tobogganing.progress import Progress


@dataclass
class RestoreReport:
    """What was written, and how all of it stands afterwards."""

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
    """Write what is missing, unless `only_check`; then compare all of it.

    `progress` counts what is written, or there, and then what is compared.

    Raises:
        LocalError: a processor has begun to work here already; its rows would not be these.
        BackupError: the backup cannot be read.
        KafkaError: Kafka does not answer; what was written may be written again.
    """
    done = RestoreReport()
    if not only_check:
        if rows:
            await require_no_processor(settings)
        done.records_written = await write_registry(settings, backup, progress)
        if rows:
            done.rows_written = await write_rows(settings, backup, progress)
    await _compare_registry(settings, backup, done.records, progress)
    if rows:
        await _compare_rows(settings, backup, done.rows, progress)
    return done


async def _compare_registry(
    settings: KafkaSettings, backup: Backup, tally: StatusCounts, progress: Progress
) -> None:
    known, now = await RegistrySnapshot.load(settings), time.time_ns() // 1_000_000
    for entry in backup.records():
        record = decode_record(bytes(entry.value))
        held = known.current(entry.key.encode())
        tally.add(entry.key, compare_record(record, held, now))
        progress.add(1)


async def _compare_rows(
    settings: KafkaSettings, backup: Backup, tally: StatusCounts, progress: Progress
) -> None:
    partitions = range(settings.kafka_partitions)
    async with RowSnapshot(settings, partitions) as known:
        await known.read()
    for entry in backup.rows():
        key = entry.key.encode()
        theirs = known.states[partition_of(key, len(partitions))].rows.get(key)
        row = as_restored(decode_entity_row(bytes(entry.value)))
        tally.add(entry.key, compare_row(row, decode_entity_row(theirs) if theirs else None))
        progress.add(1)
