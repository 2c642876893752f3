"""Bounded handling of compressed record batches.

Gateways compress batches with zstd. Other producers may send 1 MiB that decompresses to gigabytes,
or use another codec. aiokafka decompresses a batch as a whole, and an exception ends its consumer.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.record.default_records import DefaultRecordBatch

from service.compression import CompressionError, DecompressedTooLargeError, decompress

log = structlog.get_logger(__name__)

MAX_UNPACKED_BYTES = 64 << 20
"""Maximum decompressed size of a batch; the records of a larger batch are unreadable."""
UNREADABLE_KEY = b"unreadable"
CODECS = {DefaultRecordBatch.CODEC_GZIP: b"gzip", DefaultRecordBatch.CODEC_ZSTD: b"zstd"}
"""Codecs that are read, with their names in service.compression."""
HEADER_BYTES = 61
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = 21
_CODEC_MASK = DefaultRecordBatch.CODEC_MASK
_COUNT = struct.Struct(">i")


def readable(batch: Any, packed: bytes | memoryview) -> Any:
    """Return a batch whose records are decompressed, or, if they cannot be, a batch with the same
    number of unreadable records.

    `packed` is the complete encoded batch, of magic 2.
    """
    codec = batch.compression_type
    if codec == 0:
        return batch
    try:
        return ReplacedBatch(batch, DefaultRecordBatch(_decompressed(codec, packed)))
    except (CompressionError, DecompressedTooLargeError) as error:
        reason = f"it {error}"
    log.error("record batch not decompressed", offset=batch.base_offset, reason=reason)
    (count,) = _COUNT.unpack_from(packed, HEADER_BYTES - _COUNT.size)
    value = f"record batch not decompressed: {reason}".encode()
    return ReplacedBatch(batch, _UnreadableRecords(batch, count, value))


def _decompressed(codec: int, packed: bytes | memoryview) -> bytes:
    """Return the encoded batch without compression.

    Raises:
        CompressionError: the codec is not supported, or the records are damaged.
        DecompressedTooLargeError: there are more than MAX_UNPACKED_BYTES.
    """
    if codec not in CODECS:
        raise CompressionError(f"is compressed with codec {codec}; only gzip and zstd are read")
    try:
        records = decompress(CODECS[codec], packed[HEADER_BYTES:], MAX_UNPACKED_BYTES)
    except DecompressedTooLargeError:
        text = f"decompresses to more than {MAX_UNPACKED_BYTES} bytes"
        raise DecompressedTooLargeError(text) from None
    header = bytearray(packed[:HEADER_BYTES])
    (attributes,) = _ATTRIBUTES.unpack_from(header, _ATTRIBUTES_AT)
    _ATTRIBUTES.pack_into(header, _ATTRIBUTES_AT, attributes & ~_CODEC_MASK)
    return bytes(header) + records


class ReplacedBatch:
    """A compressed batch with other records; its attributes are those of the batch.

    So the checksum is that of the compressed data, as the broker computed it.
    """

    def __init__(self, batch: Any, records: Any) -> None:
        self._batch = batch
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._records)


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


class _UnreadableRecords:
    def __init__(self, batch: Any, count: int, value: bytes) -> None:
        self._batch = batch
        self._count = min(count, batch.next_offset - batch.base_offset)
        self._value = value

    def __iter__(self) -> Iterator[UnreadableRecord]:
        batch = self._batch
        for offset in range(batch.base_offset, batch.base_offset + self._count):
            yield UnreadableRecord(offset, batch.max_timestamp, batch.timestamp_type, self._value)
