"""Expositions: a rendered scrape, compressed in memory until all clients have read it.

One gzip exposition serves all clients. It has about a tenth of the original size, so slow readers
hold little memory. For clients without gzip it is decompressed chunk by chunk.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from isal import isal_zlib

LEVEL = 1
BLOCK = 1024 * 1024
"""Bytes to compress at a time. Compression releases the GIL; large blocks reacquire it
less often."""
DECOMPRESSED_CHUNK = 128 * 1024
"""Bytes to decompress at a time for a client without gzip."""

render_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scrape")
"""The only thread that renders and decompresses: each further thread would take more memory."""

_RAW = -15
_GZIP = 31
_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])
_LAST_BLOCK = b"\x03\x00"

Steps = Iterator[list[bytes]]
"""Iterates over all entities of a kind; each step is a list with a piece of every family."""


class CompressedExposition:
    """An exposition as one gzip stream, in chunks."""

    def __init__(self, chunks: Sequence[bytes], size: int) -> None:
        self.compressed = chunks
        self.compressed_size = sum(map(len, chunks))
        self.size = size
        """Bytes before compression."""

    def decompressed(self) -> Iterator[bytes]:
        """Decompress into chunks of at most DECOMPRESSED_CHUNK bytes."""
        decompressor = isal_zlib.decompressobj(_GZIP)
        for chunk in self.compressed:
            while chunk:
                yield decompressor.decompress(chunk, DECOMPRESSED_CHUNK)
                chunk = decompressor.unconsumed_tail
        yield decompressor.flush()


def render_exposition(tables: Iterable[Steps], rest: bytes) -> CompressedExposition:
    """Render all steps into one exposition: family after family, then `rest`.

    Takes 0.2 s per 100,000 entities; call it in a thread.
    """
    members: list[_CompressedMember] = []
    for steps in tables:
        families: list[_CompressedMember] = []
        for pieces in steps:
            families = families or [_CompressedMember() for _ in pieces]
            for family, piece in zip(families, pieces, strict=True):
                family.add(piece)
        members += families
        for family in families:
            family.end()
    last = _CompressedMember()
    last.add(rest)
    last.end()
    members.append(last)
    return _join(members)


class _CompressedMember:
    """A part of the exposition, compressed independently.

    It ends on a byte boundary and refers to nothing before its start, so parts that grew
    concurrently can be concatenated.
    """

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.checksum = 0
        self._compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW)
        self._pieces: list[bytes] = []
        self._pending_size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pending_size += len(piece)
        if self._pending_size >= BLOCK:
            self._compress()

    def end(self) -> None:
        self._compress()
        self.chunks.append(self._compressor.flush(isal_zlib.Z_FULL_FLUSH))

    def _compress(self) -> None:
        block = b"".join(self._pieces)
        self._pieces.clear()
        self._pending_size = 0
        self.size += len(block)
        self.checksum = isal_zlib.crc32(block, self.checksum)
        self.chunks.append(self._compressor.compress(block))


def _join(members: Sequence[_CompressedMember]) -> CompressedExposition:
    checksum = size = 0
    chunks = [_HEADER]
    for member in members:
        checksum = isal_zlib.crc32_combine(checksum, member.checksum, member.size)
        size += member.size
        chunks += member.chunks
    trailer = checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    chunks.append(_LAST_BLOCK + trailer)
    return CompressedExposition(chunks, size)
