"""The value of a dead letter, which may be compressed."""

from contract.dead_letter import ENCODING, DeadLetterError, DeadLetterSource
from service.compression import CompressionError, DecompressedTooLargeError, decompress
from service.kafka.compressed_batch import MAX_UNPACKED_BYTES


def unpack_value(source: DeadLetterSource, value: bytes) -> bytes:
    """Return a letter's data as it was when it became a dead letter.

    Raises:
        DeadLetterError: it is damaged, or decompresses to more than MAX_UNPACKED_BYTES.
    """
    if not source.is_compressed:
        return value
    try:
        return decompress(ENCODING.encode(), value, MAX_UNPACKED_BYTES)
    except (CompressionError, DecompressedTooLargeError) as error:
        raise DeadLetterError(str(error)) from error
