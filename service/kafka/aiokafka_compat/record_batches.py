"""Record batches as aiokafka's fetcher reads them: leader epochs, and bounded decompression."""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.structs import ConsumerRecord

from service.kafka.compressed_batch import readable

_BATCH_HEADER = struct.Struct(">qii")
"""Base offset, length of the rest, partition leader epoch."""
_LENGTH_FROM = 12
"""Bytes of a record batch before the part that its length field counts."""


def patch_record_batches() -> None:
    """Make every consumer of this process tag records with their batch's leader epoch, and
    decompress batches in bounded memory.

    The epoch is stored in `checksum`, which is None for the record format used since Kafka 0.11.
    `tests/integration/test_aiokafka_compat.py`.
    """
    fetcher.MemoryRecords = _EpochRecords
    fetcher.PartitionRecords = _TaggedRecords


def leader_epoch(message: Any) -> int | None:
    """Return the leader epoch of a record or of a Faust message made from it; None if not
    tagged."""
    epoch: int | None = message.checksum
    return epoch


class PackedBatch(NamedTuple):
    """An encoded record batch, which may be compressed."""

    epoch: int
    data: memoryview


def packed_batches(data: bytes) -> Iterator[PackedBatch]:
    """Yield the record batches in fetched data; the last batch may be truncated."""
    view = memoryview(data)
    position = 0
    while position + _BATCH_HEADER.size <= len(data):
        _, length, epoch = _BATCH_HEADER.unpack_from(data, position)
        end = position + _LENGTH_FROM + length
        yield PackedBatch(epoch, view[position:end])
        position = end


class _EpochRecords(fetcher.MemoryRecords):
    """Record batches, with the leader epoch of the last returned batch."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._packed = packed_batches(data)
        self.epoch = -1

    def next_batch(self) -> Any:
        batch = super().next_batch()
        if batch is None:
            return None
        self.epoch, packed = next(self._packed)
        return readable(batch, packed)


class _TaggedRecords(fetcher.PartitionRecords):
    def _consumer_record(self, tp: Any, record: Any) -> ConsumerRecord[Any, Any]:
        made: ConsumerRecord[Any, Any] = super()._consumer_record(tp, record)
        made.checksum = self._records.epoch
        return made
