"""Compressed bodies: what a Content-Encoding names is undone, within bounds.

A body may be any number of gzip members or zstd frames, one after the other, as both formats allow.
Nothing is unpacked beyond the limit, whatever a stream says of itself.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from backports import zstd
from isal import isal_zlib

from gateway.decoding import BODY, BodyError

MAX_WINDOW_LOG = 23
"""8 MiB, as RFC 8878 recommends: how far back a zstd stream may refer, all of which is memory."""
_GZIP = 31
"""`wbits` of a gzip stream."""
_Damage: Any = isal_zlib.error  # which its types call an instance
_CHUNK = 256 * 1024
"""Bytes that are unpacked at a time; between two, other threads get their turn."""
_THREAD = ThreadPoolExecutor(1, "unpacking")
"""Where all is unpacked that takes long, one after the other: bombs may not take all cores."""


class BombError(ValueError):
    """What was compressed is larger than it may be."""


def _gzip() -> Any:
    return isal_zlib.decompressobj(_GZIP)


def _zstd() -> Any:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    )


CODINGS: dict[bytes, Callable[[], Any]] = {b"gzip": _gzip, b"x-gzip": _gzip, b"zstd": _zstd}
"""What makes a decompressor for one member or frame; `x-gzip` is gzip's older name (RFC 9110)."""


async def unpack(coding: bytes, body: bytes, limit: int) -> bytes:
    """Undo a coding of CODINGS.

    Raises:
        BombError: there is more than `limit` bytes.
        BodyError: the stream is damaged, or ends early.
    """
    if limit > _CHUNK:  # how long it takes is known only by what comes out
        with contextlib.suppress(BombError):
            return unpack_now(coding, body, _CHUNK)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_THREAD, unpack_now, coding, body, limit)
    return unpack_now(coding, body, limit)


def unpack_now(coding: bytes, body: bytes, limit: int) -> bytes:
    """Like `unpack`, in this thread."""
    start = CODINGS[coding]
    unpacked = bytearray()
    rest = body
    try:
        while True:
            stream = start()
            _unpack_one(stream, rest, unpacked, limit)
            if not stream.eof:
                raise BodyError(BODY, f"ends early, within its {coding.decode()} stream")
            rest = stream.unused_data
            if not rest:
                return bytes(unpacked)
    except (_Damage, zstd.ZstdError, EOFError) as error:
        raise BodyError(BODY, f"is no valid {coding.decode()} stream") from error


def _unpack_one(stream: Any, data: bytes, unpacked: bytearray, limit: int) -> None:
    """Add what one member or frame holds."""
    while True:
        room = limit + 1 - len(unpacked)
        piece = stream.decompress(data, min(room, _CHUNK))
        unpacked += piece
        if len(unpacked) > limit:
            raise BombError
        if stream.eof:
            return
        # gzip keeps what it has not looked at yet, zstd keeps it inside.
        data = getattr(stream, "unconsumed_tail", b"")
        if not piece and not data:
            return
