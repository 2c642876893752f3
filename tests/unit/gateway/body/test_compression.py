"""Decompression of bodies, including damaged ones and decompression bombs."""

import asyncio
import gzip
import random
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from unittest.mock import patch

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from gateway.body import compression as body_compression
from gateway.body.compression import decompress, decompress_sync
from gateway.body.json import BodyError
from service import compression
from service.compression import CODINGS, MAX_MEMBERS, DecompressedTooLargeError
from service.memory_budget import MemoryBudget, Reservation

PACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"zstd": zstd.compress,
}
LIMIT = 1 << 20
codings = st.sampled_from(sorted(CODINGS))


def held() -> Reservation:
    return Reservation(MemoryBudget(2 * LIMIT))


@given(codings, st.lists(st.binary(max_size=500), min_size=1, max_size=4), st.integers(1, 5000))
def test_bodies_of_several_members_are_decompressed(
    coding: bytes, parts: list[bytes], repeat: int
) -> None:
    whole = [part * repeat for part in parts]
    packed = b"".join(map(PACK[coding], whole))
    content = b"".join(whole)
    if len(content) > LIMIT:
        with pytest.raises(DecompressedTooLargeError):
            decompress_sync(coding, packed, LIMIT)
    else:
        assert decompress_sync(coding, packed, LIMIT) == content


@given(
    codings,
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    st.integers(1, 60),
    st.binary(max_size=3) | st.just(b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab"),
    st.integers(0, 400),
)
def test_the_chunk_size_does_not_change_the_result(
    coding: bytes, parts: list[bytes], piece: int, behind: bytes, length: int
) -> None:
    """Whole, truncated, or followed by a skippable zstd frame or random bytes."""
    body = (b"".join(map(PACK[coding], parts)) + behind)[: length or None]

    def outcome() -> bytes | str:
        try:
            return decompress_sync(coding, body, LIMIT)
        except BodyError as error:
            return str(error)

    with patch.object(compression, "INPUT_CHUNK", len(body) + 1):
        at_once = outcome()
    with patch.object(compression, "INPUT_CHUNK", piece):
        assert outcome() == at_once
    if length == 0 and not behind:
        assert at_once == b"".join(parts)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**19, 2**20])
@pytest.mark.parametrize("seed", [b"", b"x"], ids=["dense", "varied"])
def test_sizes_around_the_chunk_size(coding: bytes, size: int, seed: bytes) -> None:
    content = (b"%d," % size * size)[:size] if seed else bytes(size)
    assert decompress_sync(coding, PACK[coding](content), size) == content
    if size:
        with pytest.raises(DecompressedTooLargeError):
            decompress_sync(coding, PACK[coding](content), size - 1)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_every_truncated_body_is_refused(coding: bytes) -> None:
    packed = PACK[coding](b'{"metrics":{"bytes_sent":1}}' * 20)
    for length in range(len(packed)):
        with pytest.raises(BodyError) as error:
            decompress_sync(coding, packed[:length], LIMIT)
        assert error.value.field == "body"
        if length:
            with pytest.raises(BodyError):
                decompress_sync(coding, packed + packed[:length], LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_damaged_bodies_are_refused(coding: bytes) -> None:
    content = bytes(range(256)) * 20
    packed = PACK[coding](content)
    if coding == b"zstd":
        checked: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
        packed = zstd.compress(content, options=checked)
    for place in range(0, len(packed), 7):
        damaged = bytearray(packed)
        damaged[place] ^= 0x55
        try:
            got = decompress_sync(coding, bytes(damaged), LIMIT)
        except (BodyError, DecompressedTooLargeError):
            continue
        assert got == content, "only parts without a checksum may differ: a name, a time"


@pytest.mark.parametrize("rest", [b"\x00", b"x", b"garbage behind it"])
@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_data_after_a_member_must_be_another_member(coding: bytes, rest: bytes) -> None:
    with pytest.raises(BodyError):
        decompress_sync(coding, PACK[coding](b"{}") + rest, LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("body", [b"{}", b"", zlib.compress(b"{}"), b"\x1f\x8b"])
def test_invalid_streams_are_refused(coding: bytes, body: bytes) -> None:
    with pytest.raises(BodyError):
        decompress_sync(coding, body, LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
async def test_a_decompression_bomb_uses_bounded_memory(coding: bytes) -> None:
    """64 MiB of zeros that fit in one request, and many such frames in sequence."""
    bomb = PACK[coding](bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(DecompressedTooLargeError):
        await decompress(coding, bomb * 20, LIMIT, held())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LIMIT


def test_a_zstd_stream_with_a_large_window_is_refused() -> None:
    """Its window takes memory, whatever the size of the result."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(BodyError):
        decompress_sync(b"zstd", packed, LIMIT)


async def test_large_results_wait_for_the_lock_and_do_not_block_small_ones() -> None:
    """Even if the compressed body is small."""
    go_on = threading.Event()
    before = body_compression._THREAD.submit(go_on.wait, 10)
    large = asyncio.create_task(decompress(b"zstd", zstd.compress(bytes(LIMIT)), LIMIT, held()))
    assert await decompress(b"gzip", gzip.compress(b"small"), LIMIT, held()) == b"small"
    await asyncio.wait([large], timeout=0)
    assert not large.done()
    go_on.set()
    assert await large == bytes(LIMIT)
    assert before.result()


async def test_large_inputs_wait_for_the_lock_even_if_the_result_is_small() -> None:
    """Many empty blocks take long and yield nothing."""
    packer = zlib.compressobj(wbits=31)
    begin = packer.compress(b"{}") + packer.flush(zlib.Z_FULL_FLUSH)
    body = begin + b"\x00\x00\x00\xff\xff" * 20_000 + packer.flush()
    go_on = threading.Event()
    before = body_compression._THREAD.submit(go_on.wait, 10)
    large = asyncio.create_task(decompress(b"gzip", body, LIMIT, held()))
    await asyncio.wait([large], timeout=0)
    assert not large.done()
    go_on.set()
    assert await large == b"{}"
    assert before.result()


async def test_only_the_body_that_holds_the_lock_reserves_memory() -> None:
    """However many requests wait; each would reserve the limit."""
    memory = MemoryBudget(LIMIT + 2**19)
    contents = [bytes([number]) * 2**19 for number in range(8)]

    async def one(content: bytes) -> bytes:
        with memory.reserve() as mine:
            return await decompress(b"gzip", gzip.compress(content), LIMIT, mine)

    assert await asyncio.gather(*map(one, contents)) == contents
    assert memory.reserved == 0


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_the_number_of_members_is_limited(coding: bytes) -> None:
    empty = PACK[coding](b"")
    assert decompress_sync(coding, empty * MAX_MEMBERS, LIMIT) == b""
    with pytest.raises(BodyError, match="more than"):
        decompress_sync(coding, empty * (MAX_MEMBERS + 1), LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_data_after_a_member_is_not_copied_for_each_member(coding: bytes) -> None:
    """Otherwise the time for a body would grow with the square of its length."""
    body = PACK[coding](b"") * 4 + PACK[coding](random.Random(1).randbytes(8 * LIMIT))
    tracemalloc.start()
    with pytest.raises(DecompressedTooLargeError):
        decompress_sync(coding, body, 2**18)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT
