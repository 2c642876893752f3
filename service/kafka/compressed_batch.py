"""Bounded handling of compressed record batches.

The gateways do not compress batches. Other producers may send 1 MiB that decompresses to gigabytes,
or use a codec that is not installed. aiokafka decompresses a batch as a whole, and an exception
ends its consumer.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

MAX_UNPACKED_BYTES = 64 << 20
"""Maximum decompressed size of a batch; the records of a larger batch are unreadable."""
UNREADABLE_KEY = b"unreadable"
GZIP = 1
HEADER_BYTES = 61
_COUNT = struct.Struct(">i")
_CHUNK = 1 << 16


def readable(batch: Any, packed: bytes | memoryview) -> Any:
    """Return the batch if it can be decompressed, else a batch with the same number of unreadable
    records.

    `packed` is the complete encoded batch, of magic 2.
    """
    codec = batch.compression_type
    if codec == 0:
        return batch
    if codec != GZIP:
        reason = f"it is compressed with codec {codec}; only gzip is supported"
    elif exceeds(packed[HEADER_BYTES:], MAX_UNPACKED_BYTES):
        reason = f"it decompresses to more than {MAX_UNPACKED_BYTES} bytes"
    else:
        return batch
    log.error("record batch not decompressed", offset=batch.base_offset, reason=reason)
    (count,) = _COUNT.unpack_from(packed, HEADER_BYTES - _COUNT.size)
    return UnreadableBatch(batch, count, f"record batch not decompressed: {reason}".encode())


def exceeds(packed: bytes | memoryview, limit: int) -> bool:
    """Return whether gzip data decompresses to more than `limit` bytes, or is not valid."""
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
                    return True  # truncated
                rest = member.unconsumed_tail
        except zlib.error:
            return True
        rest = member.unused_data
    return False


@dataclass(frozen=True)
class UnreadableRecord:
    """Replaces a record that was not decompressed, with the attributes of an aiokafka record."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes
    key: bytes = UNREADABLE_KEY
    headers: tuple[()] = ()
    checksum: None = None


class UnreadableBatch:
    """Replaces a batch that was not decompressed, with the attributes of an aiokafka batch."""

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
