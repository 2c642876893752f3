"""Bounded decompression of gzip and zstd, and compression with zstd.

Data may consist of several gzip members or zstd frames, as both formats allow. Output is bounded
regardless of the sizes that a stream declares.
"""

from collections.abc import Callable, Iterator
from typing import Any

from backports import zstd
from isal import isal_zlib

MAX_WINDOW_LOG = 23
"""Maximum zstd window of 8 MiB, as RFC 8878 recommends; the window is kept in memory."""
_GZIP = 31
"""`wbits` for a gzip stream."""
_GzipError: Any = isal_zlib.error  # declared as an instance in its type stubs
MAX_MEMBERS = 256
"""Maximum number of gzip members or zstd frames. An empty member takes 9 bytes and costs about 20
us. Block gzip makes half this number from the largest body."""
OUTPUT_CHUNK = 256 * 1024
"""Maximum bytes of output per call; other threads run between two calls."""
INPUT_CHUNK = 64 * 1024
"""Maximum bytes of input per call; unused input is copied for the next one."""
_compressor = zstd.ZstdCompressor(level=1)
"""Kept, because a new context costs 20 us. Level 1 is twice as fast as 3, and no larger, for
frames."""


class CompressionError(ValueError):
    """The stream is damaged, truncated, or has too many members."""


class DecompressedTooLargeError(ValueError):
    """The decompressed data exceeds the limit."""


def _gzip() -> Any:
    return isal_zlib.decompressobj(_GZIP)


def _zstd() -> Any:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    )


CODINGS: dict[bytes, Callable[[], Any]] = {b"gzip": _gzip, b"x-gzip": _gzip, b"zstd": _zstd}
"""Maps a coding to a factory of decompressors for one member or frame; `x-gzip` is an old name of
gzip (RFC 9110)."""


def compress_zstd(data: bytes | bytearray | memoryview) -> bytes:
    return _compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress(coding: bytes, packed: bytes | memoryview, limit: int) -> bytes:
    """Decompress data with a coding from CODINGS.

    Raises:
        DecompressedTooLargeError: the result exceeds `limit` bytes.
        CompressionError: the stream is damaged, truncated, or has too many members.
    """
    start = CODINGS[coding]
    decompressed = bytearray()
    chunks = _chunks(packed)
    rest = next(chunks, b"")
    try:
        for _ in range(MAX_MEMBERS):
            stream = start()
            _decompress_member(stream, rest, chunks, decompressed, limit)
            if not stream.eof:
                raise CompressionError(f"ends in the middle of a {coding.decode()} stream")
            rest = stream.unused_data or next(chunks, b"")
            if not rest:
                return bytes(decompressed)
    except (_GzipError, zstd.ZstdError, EOFError) as error:
        raise CompressionError(f"is not a valid {coding.decode()} stream") from error
    raise CompressionError(f"contains more than {MAX_MEMBERS} {coding.decode()} streams")


def _chunks(packed: bytes | memoryview) -> Iterator[bytes | memoryview]:
    view = memoryview(packed)
    for start in range(0, len(packed), INPUT_CHUNK):
        yield view[start : start + INPUT_CHUNK]


def _decompress_member(
    stream: Any,
    data: bytes | memoryview,
    chunks: Iterator[bytes | memoryview],
    decompressed: bytearray,
    limit: int,
) -> None:
    """Append the output of one member or frame, whose input is `data` and `chunks`."""
    while True:
        remaining = limit + 1 - len(decompressed)
        chunk = stream.decompress(data, min(remaining, OUTPUT_CHUNK))
        decompressed += chunk
        if len(decompressed) > limit:
            raise DecompressedTooLargeError
        if stream.eof:
            return
        # isal returns unprocessed input as unconsumed_tail; zstd keeps it.
        data = getattr(stream, "unconsumed_tail", b"")
        if not chunk and not data:
            data = next(chunks, b"")
            if not data:
                return
