"""Compressed bodies: what a Content-Encoding names is undone, within bounds.

A body may be several gzip members or zstd frames, one after the other, as both formats allow.
Nothing is unpacked beyond the limit, whatever a stream says of itself; and what takes long is
unpacked beside the event loop.
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
"""8 MiB, as RFC 8878 recommends: how far back a zstd stream may refer, all of which is memory."""
_GZIP = 31
"""`wbits` of a gzip stream."""
_Damage: Any = isal_zlib.error  # which its types call an instance
MAX_MEMBERS = 256
"""Each costs about 20 us, even one that holds nothing and takes 9 bytes. Twice as many as block
gzip makes of the largest body."""
_OUTPUT_CHUNK = 256 * 1024
"""Bytes that are unpacked at a time; between two, other threads get their turn."""
_INPUT_CHUNK = 64 * 1024
"""Bytes that a stream is given at a time: what one leaves over is copied for the next."""
_THREAD = ThreadPoolExecutor(1, "unpacking")
"""Where all is unpacked that takes long, one after the other: bombs may not take all cores."""


class DecompressedTooLargeError(ValueError):
    """What was compressed is larger than it may be."""


def _gzip() -> Any:
    return isal_zlib.decompressobj(_GZIP)


def _zstd() -> Any:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    )


CODINGS: dict[bytes, Callable[[], Any]] = {b"gzip": _gzip, b"x-gzip": _gzip, b"zstd": _zstd}
"""What makes a decompressor for one member or frame; `x-gzip` is gzip's older name (RFC 9110)."""


async def decompress(coding: bytes, body: bytes, limit: int, reservation: Reservation) -> bytes:
    """Undo a coding of CODINGS; what comes out is `reservation`.

    What is small and stays small is unpacked at once, anything else when its turn comes.

    Raises:
        BombError: there is more than `limit` bytes.
        BodyError: the stream is damaged, ends early, or has too many members.
        FullError: there is no room for so much as it may become.
    """
    if len(body) <= _INPUT_CHUNK:
        try:
            unpacked = decompress_sync(coding, body, min(limit, _OUTPUT_CHUNK))
        except DecompressedTooLargeError:
            if limit <= _OUTPUT_CHUNK:
                raise
        else:
            reservation.add(len(unpacked))
            return unpacked
    async with reservation.budget.lock:
        reservation.add(limit)
        loop = asyncio.get_running_loop()
        unpacked = await loop.run_in_executor(_THREAD, decompress_sync, coding, body, limit)
        reservation.add(len(unpacked) - limit)
        return unpacked


def decompress_sync(coding: bytes, body: bytes, limit: int) -> bytes:
    """Like `decompress`, in this thread."""
    start = CODINGS[coding]
    unpacked = bytearray()
    chunks = _chunks(body)
    rest = next(chunks, b"")
    try:
        for _ in range(MAX_MEMBERS):
            stream = start()
            _decompress_member(stream, rest, chunks, unpacked, limit)
            if not stream.eof:
                raise BodyError(BODY, f"ends early, within its {coding.decode()} stream")
            rest = stream.unused_data or next(chunks, b"")
            if not rest:
                return bytes(unpacked)
    except (_Damage, zstd.ZstdError, EOFError) as error:
        raise BodyError(BODY, f"is no valid {coding.decode()} stream") from error
    raise BodyError(BODY, f"has more than {MAX_MEMBERS} {coding.decode()} streams in it")


def _chunks(body: bytes) -> Iterator[bytes | memoryview]:
    view = memoryview(body)
    for start in range(0, len(body), _INPUT_CHUNK):
        yield view[start : start + _INPUT_CHUNK]


def _decompress_member(
    stream: Any,
    data: bytes | memoryview,
    chunks: Iterator[bytes | memoryview],
    unpacked: bytearray,
    limit: int,
) -> None:
    """Add what one member or frame holds, which begins with `data` and goes on in `chunks`."""
    while True:
        room = limit + 1 - len(unpacked)
        chunk = stream.decompress(data, min(room, _OUTPUT_CHUNK))
        unpacked += chunk
        if len(unpacked) > limit:
            raise DecompressedTooLargeError
        if stream.eof:
            return
        # gzip keeps what it has not looked at yet, zstd keeps it inside.
        data = getattr(stream, "unconsumed_tail", b"")
        if not chunk and not data:
            data = next(chunks, b"")
            if not data:
                return
