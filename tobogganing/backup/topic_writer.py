"""Writing what is missing."""

from collections.abc import Callable, Iterable, Iterator

from contract.frame import partition_of
from contract.registry import decode_record, encode_record
from contract.row import decode_entity_row, encode_row
from processor.changelog.producer import ChangelogProducer
from processor.core.write_batch import NO_HEADERS, ChangelogRecord, split
from service.config.settings import KafkaSettings
from service.kafka.topics import topics_from
from tobogganing.backup.diff import EntryStatus, as_restored, as_successor, compare_record
from tobogganing.backup.file import Backup, RowEntry
from tobogganing.backup.topic_snapshot import RegistrySnapshot
from tobogganing.progress import Progress

CHUNK = 5_000
"""Records that are acknowledged before more are sent."""


async def write_registry(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    """Write the records that are missing, also those whose time is over.

    That is for gateways to decide, by the cluster's time: by this machine's clock a revoked token
    might come back.
    """
    known = await RegistrySnapshot.load(settings)

    def missing() -> Iterator[ChangelogRecord]:
        for entry in backup.records():
            record, key = decode_record(bytes(entry.value)), entry.key.encode()
            held = known.current(key)
            if compare_record(record, held, now=0) is EntryStatus.MISSING:
                yield key, encode_record(as_successor(record, held)), NO_HEADERS
            else:
                progress.add(1)

    async with _TopicWriter(settings, topics_from(settings).registry.name) as topic:
        return await topic.write(missing(), lambda _: 0, progress)


async def write_rows(settings: KafkaSettings, backup: Backup, progress: Progress) -> int:
    def entry(row: RowEntry) -> ChangelogRecord:
        value = encode_row(as_restored(decode_entity_row(bytes(row.value))))
        return row.key.encode(), value, NO_HEADERS

    async with _TopicWriter(settings, topics_from(settings).entity_state.name) as topic:
        return await topic.write(
            map(entry, backup.rows()),
            lambda key: partition_of(key, settings.kafka_partitions),
            progress,
        )


class _TopicWriter:
    """Writes to one topic, in chunks of which each is acknowledged: an async context manager."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._changelog = ChangelogProducer(settings, topic, topics_from(settings).dead_letter.name)

    async def __aenter__(self) -> "_TopicWriter":
        await self._changelog.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._changelog.stop()

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
            await self._changelog.write({p: split(each) for p, each in spread.items()})
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
