"""A body is one gzip stream that anybody can read, whatever its parts."""

import gzip
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.scrape import exposition
from exporter.scrape.exposition import CompressedExposition, render_exposition

ENOUGH_FOR_BLOCKS = 3 * exposition.BLOCK

Sheet = list[list[bytes]]


def steps(*sheets: Sheet) -> list[Iterator[list[bytes]]]:
    return [iter(sheet) for sheet in sheets]


def shown(*sheets: Sheet) -> bytes:
    """Family after family, in the plainest words."""
    return b"".join(
        piece for sheet in sheets for family in zip(*sheet, strict=True) for piece in family
    )


def unpack(made: CompressedExposition) -> bytes:
    """What a reader makes of the stream who knows of one member only, as many do."""
    reader = zlib.decompressobj(31)
    text = reader.decompress(b"".join(made.compressed))
    assert reader.eof
    assert not reader.unused_data
    return text


pieces = st.binary(max_size=40) | st.builds(lambda b: b * 1000, st.binary(min_size=1, max_size=9))
sheet = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(pieces, min_size=width, max_size=width), max_size=6)
)


@given(st.lists(sheet, max_size=3), pieces)
def test_families_are_put_one_after_the_other(sheets: list[Sheet], rest: bytes) -> None:
    made = render_exposition(steps(*sheets), rest)
    expected = shown(*sheets) + rest
    assert unpack(made) == expected
    assert gzip.decompress(b"".join(made.compressed)) == expected
    assert b"".join(made.decompressed()) == expected
    assert made.size == len(expected)
    assert made.compressed_size == len(b"".join(made.compressed))


@pytest.mark.parametrize("line", [b"a line\n", bytes(range(256))])
def test_a_large_body_has_small_chunks(line: bytes) -> None:
    piece = line * (100_000 // len(line))
    rows = [[piece, piece[::-1]] for _ in range(ENOUGH_FOR_BLOCKS // len(piece))]
    made = render_exposition(steps(rows), b"the end")
    assert unpack(made) == shown(rows) + b"the end"
    opened = list(made.decompressed())
    assert b"".join(opened) == shown(rows) + b"the end"
    assert max(map(len, opened)) <= exposition.DECOMPRESSED_CHUNK
    assert max(map(len, made.compressed)) < 3 * exposition.BLOCK


def test_two_readers_do_not_disturb_each_other() -> None:
    made = render_exposition(steps([[b"x" * ENOUGH_FOR_BLOCKS]]), b"y")
    first, second = made.decompressed(), made.decompressed()
    next(first)
    assert b"".join(second) == b"x" * ENOUGH_FOR_BLOCKS + b"y"
