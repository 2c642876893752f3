"""Rule 7, first part: repairs the changelog after writes of a zombie.

A worker that was frozen past its session may still write rows of partitions that it lost. Readers
ignore lower positions, but compaction keeps the last record of a key. The owner detects such writes
because the offsets of its own records are not consecutive.
"""

from collections.abc import Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord

from contract.ledger import decode_ledger_row
from contract.position import NO_POSITION, Position
from contract.row import RowError, decode_row_position
from processor.core.partition_state import OffsetRange, PartitionState, record_position
from processor.core.write_batch import Changes, Tombstone
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader

log = structlog.get_logger(__name__)


class FencedError(RuntimeError):
    """Another worker has written newer rows of a partition, so this one must stop."""


async def repair(
    settings: KafkaSettings,
    changelog: str,
    partition: int,
    state: PartitionState,
    gaps: list[OffsetRange],
) -> Changes:
    """Read the gaps of a changelog partition and return the changes to write again.

    Raises:
        FencedError: a record in the gaps is newer than `state`.
    """
    changes: Changes = {}
    async with TopicReader(settings, changelog, [partition]) as reader:
        for start, end in gaps:

            def compare(_: int, records: Sequence[ConsumerRecord], end: int = end) -> None:
                for record in records:
                    if record.offset < end:
                        change = resolve(state, record)
                        if change is not None:
                            changes[record.key] = change

            reader.seek({partition: start})
            while await reader.position(partition) < end:
                await reader.poll(compare)
    log.warning(
        "another worker wrote to the changelog",
        partition=partition,
        gaps=gaps,
        written_again=len(changes),
    )
    return changes


def changes_to(state: PartitionState, positions: Mapping[bytes, Position]) -> Changes:
    """Return the changes that make the last record of each key the newest."""
    return {key: state.rows.get(key) or Tombstone(position) for key, position in positions.items()}


def resolve(state: PartitionState, record: ConsumerRecord) -> bytes | Tombstone | None:
    """Return the change that overwrites a foreign record, None if none is needed."""
    if record.key == state.ledger_key:
        if (
            record.value is not None
            and decode_ledger_row(record.value).progress > state.ledger.progress
        ):
            raise FencedError(f"ledger at offset {record.offset} is newer")
        return None  # every flush writes the ledger row
    theirs = record_position(record.value, record.headers)
    stored = state.rows.get(record.key)
    if stored is None:
        if record.value is None:
            return None
        if theirs.offset > state.ledger.offset:
            raise FencedError(f"row at offset {record.offset} is newer than the ledger")
        return Tombstone(theirs)
    ours = record_position(stored, ())
    if theirs > ours and theirs != NO_POSITION:
        raise FencedError(f"row at offset {record.offset} is newer")
    if record.value is None and not _has_position(stored):
        return Tombstone(theirs)  # a foreign tombstone of a row that cannot be decoded
    if record.value is None or theirs < ours:
        return stored
    return None


def _has_position(row: bytes) -> bool:
    try:
        decode_row_position(row)
    except RowError:
        return False
    return True
