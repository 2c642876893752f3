"""Record batches in zstd, with the codec that also decompresses request bodies.

aiokafka's own codec, cramjam, creates a context for each batch: 20 us, even for one submission; a
reused context takes 4 us. It also ignores the compression level of a producer.
"""

from aiokafka import codec
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record._crecords import default_records
from aiokafka.record.default_records import DefaultRecordBatch

from service.compression import compress_zstd


def zstd_batch(max_bytes: int) -> BatchBuilder:
    """Return an empty record batch that is compressed when it is sent.

    `max_bytes` is its maximum size before compression. A batch that would grow is sent as it is.
    `tests/integration/test_aiokafka_compat.py::test_a_batch_is_compressed_with_zstd`.
    """
    return BatchBuilder(max_bytes, DefaultRecordBatch.CODEC_ZSTD)


def patch_zstd() -> None:
    """Let aiokafka compress with our codec; its check for cramjam then passes."""
    codec.has_zstd = _is_available
    default_records.zstd_encode = compress_zstd


def _is_available() -> bool:
    return True


patch_zstd()
