"""Decompressed sizes are determined in bounded memory."""

import gzip

import pytest

from service.kafka.compressed_batch import exceeds

LIMIT = 1000


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (gzip.compress(bytes(LIMIT)), False),
        (gzip.compress(bytes(LIMIT + 1)), True),
        (gzip.compress(b""), False),
        (gzip.compress(bytes(LIMIT // 2)) * 2, False),
        (gzip.compress(bytes(LIMIT // 2)) * 3, True),
        (gzip.compress(bytes(LIMIT))[:-9], True),
        (b"no gzip", True),
    ],
    ids=["at the limit", "above", "empty", "two members", "three", "cut off", "other data"],
)
def test_what_unpacks_to_too_much(packed: bytes, expected: bool) -> None:
    assert exceeds(packed, LIMIT) is expected
