"""An exposition is one gzip stream that any client can read."""

import gzip
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.scrape import exposition
from exporter.scrape.exposition import CompressedExposition, render_exposition

ENOUGH_FOR_BLOCKS = 3 * exposition.BLOCK

Pieces = list[list[bytes]]


def steps(*tables: Pieces) -> list[Iterator[list[bytes]]]:
    return [iter(table) for table in tables]


def shown(*tables: Pieces) -> bytes:
    """Concatenate family after family: the simplest implementation."""
    return b"".join(
        piece for table in tables for family in zip(*table, strict=True) for piece in family
    )


def unpack(scrape: CompressedExposition) -> bytes:
    """Decompress as a client that reads only one gzip member, as many do."""
    reader = zlib.decompressobj(31)
    text = reader.decompress(b"".join(scrape.compressed))
    assert reader.eof
    assert not reader.unused_data
    return text


pieces = st.binary(max_size=40) | st.builds(lambda b: b * 1000, st.binary(min_size=1, max_size=9))
table = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(pieces, min_size=width, max_size=width), max_size=6)
)


@given(st.lists(table, max_size=3), pieces)
def test_families_are_concatenated(tables: list[Pieces], rest: bytes) -> None:
    scrape = render_exposition(steps(*tables), rest)
    expected = shown(*tables) + rest
    assert unpack(scrape) == expected
    assert gzip.decompress(b"".join(scrape.compressed)) == expected
    assert b"".join(scrape.decompressed()) == expected
    assert scrape.size == len(expected)
    assert scrape.compressed_size == len(b"".join(scrape.compressed))


@pytest.mark.parametrize("line", [b"a line\n", bytes(range(256))])
def test_a_large_exposition_has_small_chunks(line: bytes) -> None:
    piece = line * (100_000 // len(line))
    rows = [[piece, piece[::-1]] for _ in range(ENOUGH_FOR_BLOCKS // len(piece))]
    scrape = render_exposition(steps(rows), b"the end")
    assert unpack(scrape) == shown(rows) + b"the end"
    decompressed = list(scrape.decompressed())
    assert b"".join(decompressed) == shown(rows) + b"the end"
    assert max(map(len, decompressed)) <= exposition.DECOMPRESSED_CHUNK
    assert max(map(len, scrape.compressed)) < 3 * exposition.BLOCK


def test_two_readers_are_independent() -> None:
    scrape = render_exposition(steps([[b"x" * ENOUGH_FOR_BLOCKS]]), b"y")
    first, second = scrape.decompressed(), scrape.decompressed()
    next(first)
    assert b"".join(second) == b"x" * ENOUGH_FOR_BLOCKS + b"y"
