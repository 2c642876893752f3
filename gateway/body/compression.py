"""Bounded decompression of request bodies.

A body may consist of several gzip members or zstd frames, as both formats allow. Output is bounded
regardless of the sizes that a stream declares. Large bodies are decompressed in a thread, outside
the event loop.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from backports import zstd
from isal import isal_zlib

from gateway.body.json import BODY, BodyError
from gateway.body.memory_budget import Reservation

MAX_WINDOW_LOG = 23
"""Maximum zstd window of 8 MiB, as RFC 8878 recommends; the window is kept in memory."""
_GZIP = 31
"""`wbits` for a gzip stream."""
_GzipError: Any = isal_zlib.error  # declared as an instance in its type stubs
MAX_MEMBERS = 256
"""Maximum number of gzip members or zstd frames. An empty member takes 9 bytes and costs about 20
us. Block gzip makes half this number from the largest body."""
_OUTPUT_CHUNK = 256 * 1024
"""Maximum bytes of output per call; other threads run between two calls."""
_INPUT_CHUNK = 64 * 1024
"""Maximum bytes of input per call; unused input is copied for the next one."""
_THREAD = ThreadPoolExecutor(1, "decompression")
"""The one thread for large bodies, so that decompression bombs use at most one core."""


class DecompressedTooLargeError(ValueError):
    """The decompressed body exceeds the limit."""


def _gzip() -> Any:
    return isal_zlib.decompressobj(_GZIP)


def _zstd() -> Any:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    )


CODINGS: dict[bytes, Callable[[], Any]] = {b"gzip": _gzip, b"x-gzip": _gzip, b"zstd": _zstd}
"""Maps a coding to a factory of decompressors for one member or frame; `x-gzip` is an old name of
gzip (RFC 9110)."""


async def decompress(coding: bytes, body: bytes, limit: int, reservation: Reservation) -> bytes:
    """Decompress a body with a coding from CODINGS, and add the result's size to `reservation`.

    Small results are decompressed at once; others wait for the budget's lock and run in the thread.

    Raises:
        DecompressedTooLargeError: the result exceeds `limit` bytes.
        BodyError: the stream is damaged, truncated, or has too many members.
        BudgetExceededError: the memory budget does not allow `limit` bytes.
    """
    if len(body) <= _INPUT_CHUNK:
        try:
            decompressed = decompress_sync(coding, body, min(limit, _OUTPUT_CHUNK))
        except DecompressedTooLargeError:
            if limit <= _OUTPUT_CHUNK:
                raise
        else:
            reservation.add(len(decompressed))
            return decompressed
    async with reservation.budget.lock:
        reservation.add(limit)
        loop = asyncio.get_running_loop()
        decompressed = await loop.run_in_executor(_THREAD, decompress_sync, coding, body, limit)
        reservation.add(len(decompressed) - limit)
        return decompressed


def decompress_sync(coding: bytes, body: bytes, limit: int) -> bytes:
    """Decompress a body in the calling thread; see `decompress`."""
    start = CODINGS[coding]
    decompressed = bytearray()
    chunks = _chunks(body)
    rest = next(chunks, b"")
    try:
        for _ in range(MAX_MEMBERS):
            stream = start()
            _decompress_member(stream, rest, chunks, decompressed, limit)
            if not stream.eof:
                raise BodyError(BODY, f"ends in the middle of a {coding.decode()} stream")
            rest = stream.unused_data or next(chunks, b"")
            if not rest:
                return bytes(decompressed)
    except (_GzipError, zstd.ZstdError, EOFError) as error:
        raise BodyError(BODY, f"is not a valid {coding.decode()} stream") from error
    raise BodyError(BODY, f"contains more than {MAX_MEMBERS} {coding.decode()} streams")


def _chunks(body: bytes) -> Iterator[bytes | memoryview]:
    view = memoryview(body)
    for start in range(0, len(body), _INPUT_CHUNK):
        yield view[start : start + _INPUT_CHUNK]


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
        chunk = stream.decompress(data, min(remaining, _OUTPUT_CHUNK))
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
