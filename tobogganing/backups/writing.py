"""Writing what is missing."""

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


async def write_registry(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    """Write the records that are missing, also those whose time is over.

    That is for gateways to decide, by the cluster's time: by this machine's clock a revoked token
    might come back.
    """
    known = await KnownRegistry.of(settings)

    def missing() -> Iterator[ChangelogRecord]:
        for entry in backup.records():
            record, key = decode_record(bytes(entry.value)), entry.key.encode()
            held = known.held(key)
            if of_record(record, held, now=0) is Standing.MISSING:
                yield key, encode_record(succeeding(record, held)), NO_HEADERS
            else:
                progress.add(1)

    async with _Topic(settings, topics_of(settings).registry.name) as topic:
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
