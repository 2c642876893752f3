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

from gateway.decoding import BODY, BodyError
from gateway.room import Held

MAX_WINDOW_LOG = 23
"""8 MiB, as RFC 8878 recommends: how far back a zstd stream may refer, all of which is memory."""
_GZIP = 31
"""`wbits` of a gzip stream."""
_Damage: Any = isal_zlib.error  # which its types call an instance
MAX_MEMBERS = 256
"""Each costs about 20 us, even one that holds nothing and takes 9 bytes. Twice as many as block
gzip makes of the largest body."""
_CHUNK = 256 * 1024
"""Bytes that are unpacked at a time; between two, other threads get their turn."""
_PIECE = 64 * 1024
"""Bytes that a stream is given at a time: what one leaves over is copied for the next."""
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


async def unpack(coding: bytes, body: bytes, limit: int, held: Held) -> bytes:
    """Undo a coding of CODINGS; what comes out is `held`.

    What is small and stays small is unpacked at once, anything else when its turn comes.

    Raises:
        BombError: there is more than `limit` bytes.
        BodyError: the stream is damaged, ends early, or has too many members.
        FullError: there is no room for so much as it may become.
    """
    if len(body) <= _PIECE:
        try:
            unpacked = unpack_now(coding, body, min(limit, _CHUNK))
        except BombError:
            if limit <= _CHUNK:
                raise
        else:
            held.add(len(unpacked))
            return unpacked
    async with held.room.turn:
        held.add(limit)
        loop = asyncio.get_running_loop()
        unpacked = await loop.run_in_executor(_THREAD, unpack_now, coding, body, limit)
        held.add(len(unpacked) - limit)
        return unpacked


def unpack_now(coding: bytes, body: bytes, limit: int) -> bytes:
    """Like `unpack`, in this thread."""
    start = CODINGS[coding]
    unpacked = bytearray()
    pieces = _pieces(body)
    rest = next(pieces, b"")
    try:
        for _ in range(MAX_MEMBERS):
            stream = start()
            _unpack_one(stream, rest, pieces, unpacked, limit)
            if not stream.eof:
                raise BodyError(BODY, f"ends early, within its {coding.decode()} stream")
            rest = stream.unused_data or next(pieces, b"")
            if not rest:
                return bytes(unpacked)
    except (_Damage, zstd.ZstdError, EOFError) as error:
        raise BodyError(BODY, f"is no valid {coding.decode()} stream") from error
    raise BodyError(BODY, f"has more than {MAX_MEMBERS} {coding.decode()} streams in it")


def _pieces(body: bytes) -> Iterator[bytes | memoryview]:
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        yield view[start : start + _PIECE]


def _unpack_one(
    stream: Any,
    data: bytes | memoryview,
    pieces: Iterator[bytes | memoryview],
    unpacked: bytearray,
    limit: int,
) -> None:
    """Add what one member or frame holds, which begins with `data` and goes on in `pieces`."""
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
            data = next(pieces, b"")
            if not data:
                return
