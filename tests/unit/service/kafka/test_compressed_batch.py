"""Compressed batches are read in bounded memory, and unreadable ones do not end a reader."""

import gzip
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from backports import zstd

from service.kafka import compressed_batch
from service.kafka.compressed_batch import HEADER_BYTES, MAX_UNPACKED_BYTES, readable

LIMIT = 1000
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
PACK: dict[int, Callable[[bytes], bytes]] = {GZIP: gzip.compress, ZSTD: zstd.compress}
both = pytest.mark.parametrize("codec", [GZIP, ZSTD])


def encoded(codec: int, values: list[bytes], pack: Callable[[bytes], bytes] | None = None) -> bytes:
    """A batch as a broker stores it, at offset 7."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2**30,
    )
    for offset, value in enumerate(values):
        assert builder.append(offset, 5, None, value, [("name", b"header")])
    built = bytes(builder.build())
    packed = bytearray(built[:HEADER_BYTES] + (pack or PACK[codec])(built[HEADER_BYTES:]))
    struct.pack_into(">qi", packed, 0, 7, len(packed) - 12)
    struct.pack_into(">h", packed, 21, codec)
    return bytes(packed)


def read(data: bytes) -> list[tuple[int, bytes]]:
    batch = readable(DefaultRecordBatch(data), data)
    assert (batch.base_offset, batch.is_control_batch) == (7, False)
    return [(record.offset, record.value) for record in batch]


@both
def test_records_are_read(codec: int) -> None:
    assert read(encoded(codec, [b"a", b"b" * 500])) == [(7, b"a"), (8, b"b" * 500)]


@both
def test_the_checksum_is_that_of_the_stored_batch(codec: int) -> None:
    data = encoded(codec, [b"a"])
    batch = readable(DefaultRecordBatch(data), data)
    assert batch.crc == DefaultRecordBatch(data).crc
    assert not batch.validate_crc(), "this test has not computed one"


@both
@pytest.mark.parametrize(("size", "is_read"), [(LIMIT - 40, True), (LIMIT + 1, False)])
def test_the_decompressed_size_is_limited(
    codec: int, size: int, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed_batch, "MAX_UNPACKED_BYTES", LIMIT)
    ((offset, value),) = read(encoded(codec, [bytes(size)]))
    assert offset == 7
    assert (value == bytes(size)) is is_read
    assert is_read or b"decompresses to more than 1000 bytes" in value


@both
@pytest.mark.parametrize("declared", [True, False], ids=["declared size", "none"])
def test_a_bomb_takes_little_memory(codec: int, declared: bool) -> None:
    """A frame of zstd may declare its size, or not."""

    def bomb(records: bytes) -> bytes:
        if codec == GZIP:
            return gzip.compress(records)
        options: dict[int, int] = {zstd.CompressionParameter.content_size_flag: int(declared)}
        return zstd.compress(records, options=options)

    data = encoded(codec, [bytes(MAX_UNPACKED_BYTES + 1)], bomb)
    tracemalloc.start()
    try:
        ((_, value),) = read(data)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * MAX_UNPACKED_BYTES
    finally:
        tracemalloc.stop()
    assert b"decompresses to more than" in value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(GZIP, [b"a"], lambda records: gzip.compress(records)[:-9]), b"ends in the middle"),
        (encoded(ZSTD, [b"a"], lambda records: zstd.compress(records)[:-3]), b"ends in the middle"),
        (encoded(ZSTD, [b"a"], lambda records: b"other data"), b"is not a valid zstd stream"),
        (encoded(SNAPPY, [b"a"], bytes), b"is compressed with codec 2"),
        (encoded(LZ4, [b"a"], bytes), b"is compressed with codec 3"),
    ],
    ids=["cut gzip", "cut zstd", "other data", "snappy", "lz4"],
)
def test_unreadable_batches_keep_their_offsets(data: bytes, reason: bytes) -> None:
    ((offset, value),) = read(data)
    assert offset == 7
    assert reason in value
