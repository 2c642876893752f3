"""Taking a backup: the registry, and row by row what every partition knows."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from contract.row import LedgerRow, RowError, RowVersionError, decode_entity_row
from contract.total import is_total_key
from processor.core.source_history import Same
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicOffsets
from service.kafka.topics import topics_from
from tobogganing.backup.file import VERSION, BackupWriter, Footer, Header
from tobogganing.backup.source import compare_with_source
from tobogganing.backup.topic_snapshot import RegistrySnapshot, RowSnapshot
from tobogganing.errors import LocalError
from tobogganing.progress import Progress, counted

POLL = 0.2
COUNTS = ("read", "applied", "stale", "late", "dead_lettered", "lost")


class BackupReport:
    """What was backed up."""

    def __init__(self, heading: Header) -> None:
        self.heading = heading
        self.end = Footer(0, 0)
        self.unreadable = {"records": 0, "rows": 0}
        self.ledger = dict.fromkeys(COUNTS, 0)
        """What had become of all submissions, of all partitions."""
        self.ledgers: dict[int, LedgerRow] = {}

    def count(self, ledger: LedgerRow) -> None:
        for name in COUNTS:
            self.ledger[name] += getattr(ledger, name)

    def document(self) -> dict[str, Any]:
        ledger = {"ledger": self.ledger} if self.heading.rows else {}
        return {
            "records": self.end.records,
            "rows": self.end.rows,
            "unreadable": self.unreadable,
            "drained": self.heading.drained,
            **ledger,
        }


async def create_backup(
    settings: KafkaSettings, file: Path, *, rows: bool, drained: float | None
) -> BackupReport:
    """Write a backup to `file`.

    With `drained`, only if every accepted submission is in it: the processors get so many seconds.

    Raises:
        LocalError: it was not drained in time, gateways still write, or something is of a version
            that is not known here.
        KafkaError: Kafka does not answer.
        OSError: the file cannot be written.
    """
    partitions = range(settings.kafka_partitions)
    async with TopicOffsets(settings, topics_from(settings).submissions.name, partitions) as source:
        deadline = time.monotonic() + (drained or 0.0)
        ends = {} if drained is None else await source.end_offsets()
        registry = await RegistrySnapshot.load(settings)
        taken = BackupReport(
            Header(
                version=VERSION,
                taken_at=time.time_ns() // 1_000_000,
                prefix=settings.kafka_topic_prefix,
                partitions=settings.kafka_partitions,
                registry_end=registry.end,
                rows=rows,
                drained=drained is not None,
            )
        )
        taken.unreadable["records"] = registry.unreadable
        with BackupWriter(file, taken.heading) as writer:
            for key, value in registry.state.items():
                try:
                    writer.record(key, value)
                except UnicodeDecodeError:
                    taken.unreadable["records"] += 1
            if rows:
                with Progress("partitions", len(partitions), sys.stderr, counted) as progress:
                    for partition in partitions:
                        end = ends.get(partition, 0)
                        await _rows(settings, partition, end, deadline, writer, taken)
                        progress.add(1)
            if ends and await source.end_offsets() != ends:
                raise LocalError("a gateway still writes: stop all of them, and try again")
            if ends and taken.ledgers:
                await _require_same_source(settings, taken.ledgers)
            taken.end = writer.end()
    return taken


async def _require_same_source(settings: KafkaSettings, ledgers: dict[int, LedgerRow]) -> None:
    """Make sure that the ledgers were made from the topic as it is.

    Raises:
        LocalError: one may cover records that the topic does not have.
        KafkaError: Kafka does not respond.
    """
    for partition, (_, verdict) in (await compare_with_source(settings, ledgers)).items():
        if not isinstance(verdict, Same):
            raise LocalError(
                f"partition {partition}: {verdict.reason}: a processor must compare them first "
                "(`tobogganing history show`)"
            )


async def _rows(
    settings: KafkaSettings,
    partition: int,
    end: int,
    deadline: float,
    writer: BackupWriter,
    taken: BackupReport,
) -> None:
    """Write a partition's rows, once its ledger covers the source up to `end`."""
    async with RowSnapshot(settings, [partition]) as known:
        state = known.states[partition]
        await known.read()
        while state.ledger.next_offset < end:
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{end - state.ledger.next_offset:,} records of partition {partition} wait for "
                    "a processor: let the processors run until `tobogganing ledger` shows no lag"
                )
            await asyncio.sleep(POLL)
            await known.read()
    taken.count(state.ledger)
    taken.ledgers[partition] = state.ledger
    for key, value in state.rows.items():
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
            taken.unreadable["rows"] += 1
