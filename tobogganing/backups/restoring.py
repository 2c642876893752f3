"""Restoring a backup: into an installation that has lost its registry, or into a new one.

Every step may be done again: what is there already is left alone.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contract.frame import partition_of
from contract.registry import decode_record, encode_record
from contract.row import RowError, decode_entity_row, encode_row
from contract.topics import processor_group
from processor.batch import NO_HEADERS, ChangelogRecord
from processor.changelog import Writer
from service.kafka import client_options, topics_of
from service.settings import KafkaSettings
from tobogganing.backups.file import Backup, Row
from tobogganing.backups.known import KnownRegistry, KnownRows
from tobogganing.backups.standing import Standing, Tally, begun, of_record, of_row, succeeding
from tobogganing.local.errors import LocalError
from tobogganing.local.progress import Progress

CHUNK = 5_000
"""Records that are acknowledged before more are sent."""
PATIENCE = 30.0
"""Seconds that a broker gets to find a group's coordinator."""
PADDING = b"padding"
"""Key of tombstones that only take offsets of the registry topic; they remove nothing."""


@dataclass
class Restored:
    """What was written, and how all of it stands afterwards."""

    records_written: int = 0
    rows_written: int = 0
    records: Tally = field(default_factory=Tally)
    rows: Tally = field(default_factory=Tally)

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
) -> Restored:
    """Write what is missing, unless `only_check`; then compare all of it.

    `progress` counts what is written, or there, and then what is compared.

    Raises:
        LocalError: a processor has begun to work here already; its rows would not be these.
        BackupError: the backup cannot be read.
        KafkaError: Kafka does not answer; what was written may be written again.
    """
    done = Restored()
    if not only_check:
        found = await _look(settings)
        if rows:
            await _require_no_processor(settings, found)
        done.records_written = await _write_registry(settings, backup, found, progress)
        if rows:
            done.rows_written = await _write_rows(settings, backup, progress)
    await _compare_registry(settings, backup, done.records, progress)
    if rows:
        await _compare_rows(settings, backup, done.rows, progress)
    return done


class _Found(NamedTuple):
    """What is in `entity-state` before."""

    generations_end: int
    """One more than the highest generation of a row."""
    has_ledger: bool


async def _look(settings: KafkaSettings) -> _Found:
    highest, has_ledger = -1, False
    for partition in range(settings.kafka_partitions):
        async with KnownRows(settings, [partition]) as known:
            await known.read()
        state = known.states[partition]
        has_ledger = has_ledger or state.ledger.offset >= 0
        for value in state.rows.values():
            with contextlib.suppress(RowError):  # whoever begins it anew asks the registry
                highest = max(highest, decode_entity_row(value).generation)
    return _Found(highest + 1, has_ledger)


async def _require_no_processor(settings: KafkaSettings, found: _Found) -> None:
    """
    Raises:
        LocalError: one runs, or has been here: it would remove rows that are written beside it.
    """
    group = processor_group(settings.kafka_topic_prefix)
    if await _members(settings, group):
        raise LocalError(f"a processor of {group} runs: rows are restored before any is started")
    if found.has_ledger:
        raise LocalError(
            f"a processor has been at work under {settings.kafka_topic_prefix} already: restore "
            "the rows under another KAFKA_TOPIC_PREFIX, or the registry alone with --registry"
        )


async def _members(settings: KafkaSettings, group: str) -> int:
    """Members of a consumer group now."""
    deadline = time.monotonic() + PATIENCE
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        while True:
            try:
                (answer,) = await admin.describe_consumer_groups([group])
                break
            except KafkaError:  # a fresh broker has no coordinator at first
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)
    finally:
        await admin.close()
    (described,) = answer.to_object()["groups"]
    return len(described["members"])


async def _write_registry(
    settings: KafkaSettings, backup: Backup, found: _Found, progress: Progress
) -> int:
    """Write the records that are missing, at offsets behind every generation that is known.

    A generation is the offset of a registration's first record, and the higher one is the later
    one: a registration that is made here afterwards must not seem older than what it replaces.
    """
    known = await KnownRegistry.of(settings)
    end = max(backup.heading.registry_end, found.generations_end)
    padding = itertools.repeat((PADDING, None, NO_HEADERS), max(0, end - known.end))

    def missing() -> Iterator[ChangelogRecord]:
        for entry in backup.records():
            record, key = decode_record(bytes(entry.value)), entry.key.encode()
            held = known.state.current(key)
            if of_record(record, held, _now()) is Standing.MISSING:
                yield key, encode_record(succeeding(record, held)), NO_HEADERS
            else:
                progress.add(1)

    async with _Topic(settings, topics_of(settings).registry.name) as topic:
        await topic.write(padding, lambda _: 0)
        return await topic.write(missing(), lambda _: 0, progress)


async def _write_rows(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    def entry(row: Row) -> ChangelogRecord:
        value = encode_row(begun(decode_entity_row(bytes(row.value))))
        return row.key.encode(), value, NO_HEADERS

    async with _Topic(settings, topics_of(settings).entity_state.name) as topic:
        return await topic.write(
            map(entry, backup.rows()),
            lambda key: partition_of(key, settings.kafka_partitions),
            progress,
        )


async def _compare_registry(
    settings: KafkaSettings, backup: Backup, tally: Tally, progress: Progress
) -> None:
    known = await KnownRegistry.of(settings)
    for entry in backup.records():
        record = decode_record(bytes(entry.value))
        held = known.state.current(entry.key.encode())
        tally.add(entry.key, of_record(record, held, _now()))
        progress.add(1)


async def _compare_rows(
    settings: KafkaSettings, backup: Backup, tally: Tally, progress: Progress
) -> None:
    partitions = range(settings.kafka_partitions)
    async with KnownRows(settings, partitions) as known:
        await known.read()
    for entry in backup.rows():
        key = entry.key.encode()
        theirs = known.states[partition_of(key, len(partitions))].rows.get(key)
        row = begun(decode_entity_row(bytes(entry.value)))
        tally.add(entry.key, of_row(row, decode_entity_row(theirs) if theirs else None))
        progress.add(1)


class _Topic:
    """Writes to one topic, in chunks of which each is acknowledged: an async context manager."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._writer = Writer(settings, topic, topics_of(settings).dead_letter.name)

    async def __aenter__(self) -> "_Topic":
        await self._writer.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._writer.stop()

    async def write(
        self,
        records: Iterable[ChangelogRecord],
        partition: Callable[[bytes], int],
        progress: Progress | None = None,
    ) -> int:
        """Write records to the partitions of their keys; return how many."""
        number = 0
        for chunk in _chunks(records):
            spread: dict[int, list[ChangelogRecord]] = {}
            for record in chunk:
                spread.setdefault(partition(record[0]), []).append(record)
            await self._writer.write(spread)
            number += len(chunk)
            if progress is not None:
                progress.add(len(chunk))
        return number


def _chunks(records: Iterable[ChangelogRecord]) -> Iterator[list[ChangelogRecord]]:
    chunk: list[ChangelogRecord] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _now() -> int:
    return time.time_ns() // 1_000_000
