"""Items of a batch: whatever a batch is made of, it takes little more memory than its bytes."""

import tracemalloc

import pytest

from gateway.batch import MAX_BYTES
from gateway.items import ItemsDecoder, TooManyItemsError

NOW = 1_700_000_000.0


@pytest.mark.parametrize("piece", [b"1", b"{}", b'"a"', b"[]"])
@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_a_batch_of_millions_of_tiny_items_takes_little_memory(piece: bytes, lines: bool) -> None:
    count = MAX_BYTES // (len(piece) + 1) - 2
    content = (piece + b"\n") * count if lines else b"[%b1]" % ((piece + b",") * count)
    decoder = ItemsDecoder()
    decode = decoder.decode_lines if lines else decoder.decode_array
    tracemalloc.start()
    try:
        with pytest.raises(TooManyItemsError):
            next(iter(decode(content, NOW)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_BYTES
