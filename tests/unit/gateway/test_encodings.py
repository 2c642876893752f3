"""Compressed bodies: what was packed comes back; damage and bombs do not."""

import asyncio
import gzip
import threading
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from gateway import encodings
from gateway.decoding import BodyError
from gateway.encodings import CODINGS, BombError, unpack, unpack_now

PACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"zstd": zstd.compress,
}
LIMIT = 1 << 20
codings = st.sampled_from(sorted(CODINGS))


@given(codings, st.lists(st.binary(max_size=500), min_size=1, max_size=4), st.integers(1, 5000))
def test_any_number_of_members_comes_back(coding: bytes, parts: list[bytes], repeat: int) -> None:
    whole = [part * repeat for part in parts]
    packed = b"".join(map(PACK[coding], whole))
    content = b"".join(whole)
    if len(content) > LIMIT:
        with pytest.raises(BombError):
            unpack_now(coding, packed, LIMIT)
    else:
        assert unpack_now(coding, packed, LIMIT) == content


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**19, 2**20])
@pytest.mark.parametrize("seed", [b"", b"x"], ids=["dense", "varied"])
def test_sizes_around_those_that_are_unpacked_at_a_time(
    coding: bytes, size: int, seed: bytes
) -> None:
    content = (b"%d," % size * size)[:size] if seed else bytes(size)
    assert unpack_now(coding, PACK[coding](content), size) == content
    if size:
        with pytest.raises(BombError):
            unpack_now(coding, PACK[coding](content), size - 1)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_every_truncation_is_refused(coding: bytes) -> None:
    packed = PACK[coding](b'{"metrics":{"bytes_sent":1}}' * 20)
    for length in range(len(packed)):
        with pytest.raises(BodyError) as error:
            unpack_now(coding, packed[:length], LIMIT)
        assert error.value.field == "body"
        if length:
            with pytest.raises(BodyError):
                unpack_now(coding, packed + packed[:length], LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_damage_is_refused(coding: bytes) -> None:
    content = bytes(range(256)) * 20
    packed = PACK[coding](content)
    if coding == b"zstd":
        checked: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
        packed = zstd.compress(content, options=checked)
    for place in range(0, len(packed), 7):
        damaged = bytearray(packed)
        damaged[place] ^= 0x55
        try:
            got = unpack_now(coding, bytes(damaged), LIMIT)
        except (BodyError, BombError):
            continue
        assert got == content, "only what no checksum covers may differ: a name, a time"


@pytest.mark.parametrize("rest", [b"\x00", b"x", b"garbage behind it"])
@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_what_follows_must_be_another_member(coding: bytes, rest: bytes) -> None:
    with pytest.raises(BodyError):
        unpack_now(coding, PACK[coding](b"{}") + rest, LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("body", [b"{}", b"", zlib.compress(b"{}"), b"\x1f\x8b"])
def test_what_is_no_stream(coding: bytes, body: bytes) -> None:
    with pytest.raises(BodyError):
        unpack_now(coding, body, LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
async def test_a_bomb_takes_no_memory(coding: bytes) -> None:
    """64 MiB of nothing, in what fits a request; and many such frames one after the other."""
    bomb = PACK[coding](bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(BombError):
        await unpack(coding, bomb * 20, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LIMIT


def test_a_zstd_stream_that_refers_far_back_is_refused() -> None:
    """Its window is memory, whatever comes out of it."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(BodyError):
        unpack_now(b"zstd", packed, LIMIT)


async def test_what_becomes_large_waits_for_its_turn_and_holds_up_nothing_else() -> None:
    """However small it is while it is compressed."""
    go_on = threading.Event()
    before = encodings._THREAD.submit(go_on.wait, 10)
    large = asyncio.create_task(unpack(b"zstd", zstd.compress(bytes(LIMIT)), LIMIT))
    assert await unpack(b"gzip", gzip.compress(b"small"), LIMIT) == b"small"
    await asyncio.wait([large], timeout=0)
    assert not large.done()
    go_on.set()
    assert await large == bytes(LIMIT)
    assert before.result()
