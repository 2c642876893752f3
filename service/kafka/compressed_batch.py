"""Compressed record batches: whether they can be unpacked, in bounded memory.

Ours are not compressed. Whoever else may write to a topic can send 1 MiB that unpacks to gigabytes,
or in a codec that is not installed; aiokafka unpacks a batch as a whole, and raises what ends its
consumer.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

MAX_UNPACKED_BYTES = 64 << 20
"""Size of the records of a compressed batch that are read; of more, each is unreadable."""
UNREADABLE_KEY = b"unreadable"
GZIP = 1
HEADER_BYTES = 61
_COUNT = struct.Struct(">i")
_CHUNK = 1 << 16


def readable(batch: Any, packed: bytes | memoryview) -> Any:
    """Return a batch itself if it can be unpacked, else one of as many unreadable records.

    `packed` is the whole batch as Kafka has it, of magic 2.
    """
    codec = batch.compression_type
    if codec == 0:
        return batch
    if codec != GZIP:
        reason = f"it is compressed with codec {codec}; only gzip is read"
    elif exceeds(packed[HEADER_BYTES:], MAX_UNPACKED_BYTES):
        reason = f"it has more than {MAX_UNPACKED_BYTES} bytes unpacked"
    else:
        return batch
    log.error("record batch not unpacked", offset=batch.base_offset, reason=reason)
    (count,) = _COUNT.unpack_from(packed, HEADER_BYTES - _COUNT.size)
    return UnreadableBatch(batch, count, f"record batch not unpacked: {reason}".encode())


def exceeds(packed: bytes | memoryview, limit: int) -> bool:
    """Tell whether gzip data unpacks to more than `limit` bytes, or is no gzip data."""
    unpacked = 0
    rest = bytes(packed)
    while rest:
        member = zlib.decompressobj(wbits=31)
        try:
            while not member.eof:
                unpacked += len(member.decompress(rest, _CHUNK))
                if unpacked > limit:
                    return True
                if not member.eof and not member.unconsumed_tail:
                    return True  # it is cut off
                rest = member.unconsumed_tail
        except zlib.error:
            return True
        rest = member.unused_data
    return False


@dataclass(frozen=True)
class UnreadableRecord:
    """Stands for a record that was not unpacked, with the attributes of aiokafka's."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes
    key: bytes = UNREADABLE_KEY
    headers: tuple[()] = ()
    checksum: None = None


class UnreadableBatch:
    """Stands for a batch that is not unpacked, with the attributes of aiokafka's."""

    def __init__(self, batch: Any, count: int, value: bytes) -> None:
        self._batch = batch
        self._count = min(count, batch.next_offset - batch.base_offset)
        self._value = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[UnreadableRecord]:
        batch = self._batch
        for offset in range(batch.base_offset, batch.base_offset + self._count):
            yield UnreadableRecord(offset, batch.max_timestamp, batch.timestamp_type, self._value)
