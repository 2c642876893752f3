"""Writing what is missing."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from contract.frame import partition_of
from contract.registry import decode_record, encode_record
from contract.row import decode_entity_row, encode_row
from processor.batch import NO_HEADERS, ChangelogRecord
from processor.changelog import Writer
from service.kafka import topics_of
from service.settings import KafkaSettings
from tobogganing.backups.file import Backup, Row
from tobogganing.backups.known import KnownRegistry
from tobogganing.backups.standing import Standing, begun, of_record, succeeding
from tobogganing.local.progress import Progress

CHUNK = 5_000
"""Records that are acknowledged before more are sent."""
PADDING = b"padding"
"""Key of tombstones that only take offsets of the registry topic; they remove nothing."""


async def write_registry(
    settings: KafkaSettings, backup: Backup, generations_end: int, progress: Progress
) -> int:
    """Write the records that are missing, at offsets behind every generation that is known.

    A generation is the offset of a registration's first record, and the higher one is the later
    one: a registration that is made here afterwards must not seem older than what it replaces.
    The installation's rows know some, up to `generations_end`.
    """
    known = await KnownRegistry.of(settings)
    end = max(backup.heading.registry_end, generations_end)
    padding = itertools.repeat((PADDING, None, NO_HEADERS), max(0, end - known.end))

    def missing() -> Iterator[ChangelogRecord]:
        for entry in backup.records():
            record, key = decode_record(bytes(entry.value)), entry.key.encode()
            held = known.held(key)
            if of_record(record, held, now_ms()) is Standing.MISSING:
                yield key, encode_record(succeeding(record, held)), NO_HEADERS
            else:
                progress.add(1)

    async with _Topic(settings, topics_of(settings).registry.name) as topic:
        await topic.write(padding, lambda _: 0)
        return await topic.write(missing(), lambda _: 0, progress)


async def write_rows(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    def entry(row: Row) -> ChangelogRecord:
        value = encode_row(begun(decode_entity_row(bytes(row.value))))
        return row.key.encode(), value, NO_HEADERS

    async with _Topic(settings, topics_of(settings).entity_state.name) as topic:
        return await topic.write(
            map(entry, backup.rows()),
            lambda key: partition_of(key, settings.kafka_partitions),
            progress,
        )


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


def now_ms() -> int:
    """The time as records have it: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
