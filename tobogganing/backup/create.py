"""Creating a backup: the registry, and the rows partition by partition."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contract.ledger import LedgerRow
from contract.row import RowError, RowVersionError, decode_entity_row
from contract.total import is_total_key
from processor.core.source_history import Same
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicOffsets
from service.kafka.topics import topics_from
from tobogganing.backup.closing import closed_submissions
from tobogganing.backup.file import VERSION, BackupWriter, Footer, Header
from tobogganing.backup.topic_snapshot import (
    RegistrySnapshot,
    compare_with_source,
    read_covered_rows,
)
from tobogganing.errors import LocalError
from tobogganing.output import Progress

COUNTS = ("read", "applied", "stale", "late", "dead_lettered", "lost")


class BackupReport:
    """The contents of a backup; `ledger` has the sums over all partitions."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.footer = Footer(0, 0)
        self.unreadable = {"records": 0, "rows": 0}
        self.ledgers: dict[int, LedgerRow] = {}

    @property
    def ledger(self) -> dict[str, int]:
        ledgers = self.ledgers.values()
        return {name: sum(getattr(ledger, name) for ledger in ledgers) for name in COUNTS}

    def document(self) -> dict[str, Any]:
        ledger = {"ledger": self.ledger} if self.header.rows else {}
        return {
            "records": self.footer.records,
            "rows": self.footer.rows,
            "unreadable": self.unreadable,
            "drained": self.header.drained,
            **ledger,
        }


async def create_backup(
    settings: KafkaSettings, file: Path, *, rows: bool, drained: float | None
) -> BackupReport:
    """Write a backup to `file`.

    With `drained` it includes every accepted submission: the topic of submissions is closed for
    good, unless the backup fails. The processors have that many seconds.

    Raises:
        LocalError: a processor was too slow, a gateway still writes, or a record or row has an
        unknown version.
        KafkaError: Kafka does not respond.
        OSError: the file cannot be written.
    """
    if drained is None:
        return await _create(settings, file, {}, rows=rows)
    partitions = range(settings.kafka_partitions)
    async with (
        TopicOffsets(settings, topics_from(settings).submissions.name, partitions) as source,
        closed_submissions(settings, source) as ends,
    ):
        report = await _create(settings, file, ends, rows=rows, patience=drained)
        if await source.end_offsets() != ends:
            raise LocalError(f"{file} is incomplete, since a gateway still wrote: try again")
    return report


async def _create(
    settings: KafkaSettings,
    file: Path,
    ends: dict[int, int],
    *,
    rows: bool,
    patience: float = 0.0,
) -> BackupReport:
    """Write a backup; the rows of a partition are complete up to its offset in `ends`."""
    deadline = time.monotonic() + patience
    registry = await RegistrySnapshot.load(settings)
    report = BackupReport(
        Header(
            version=VERSION,
            taken_at=time.time_ns() // 1_000_000,
            prefix=settings.kafka_topic_prefix,
            partitions=settings.kafka_partitions,
            registry_end=registry.end,
            rows=rows,
            drained=bool(ends),
        )
    )
    report.unreadable["records"] = registry.unreadable
    with BackupWriter(file, report.header) as writer:
        for key, value in registry.state.items():
            try:
                writer.record(key, value)
            except UnicodeDecodeError:
                report.unreadable["records"] += 1
        if rows:
            partitions = range(settings.kafka_partitions)
            with Progress("partitions", len(partitions)) as progress:
                for partition in partitions:
                    end = ends.get(partition, 0)
                    state = await read_covered_rows(settings, partition, end, deadline)
                    _write_rows(state.rows.items(), writer, report)
                    report.ledgers[partition] = state.ledger
                    progress.add(1)
        if ends and report.ledgers:
            await _require_same_source(settings, report.ledgers)
        report.footer = writer.end()
    return report


async def _require_same_source(settings: KafkaSettings, ledgers: dict[int, LedgerRow]) -> None:
    """Check that the topic has all records that the ledgers cover."""
    for partition, (_, comparison) in (await compare_with_source(settings, ledgers)).items():
        if not isinstance(comparison, Same):
            raise LocalError(
                f"partition {partition}: {comparison.reason}: a processor must compare them first "
                "(`tobogganing history show`)"
            )


def _write_rows(
    rows: Iterable[tuple[bytes, bytes]], writer: BackupWriter, report: BackupReport
) -> None:
    for key, value in rows:
        if is_total_key(key):  # another installation counts from 0
            continue
        try:
            decode_entity_row(value)
            writer.row(key, value)
        except RowVersionError as error:
            raise LocalError(
                f"{key.decode(errors='replace')}: {error}: use the command of the version that "
                "wrote it"
            ) from None
        except (RowError, UnicodeDecodeError):
            report.unreadable["rows"] += 1
