"""Arrays are split in blocks with the same result as in one call, and each block takes bounded
time."""

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.body import arrays
from gateway.body.arrays import BLOCK, MAX_ELEMENTS, TooManyElementsError, split_array
from gateway.body.json import BodyError
from gateway.ingest.batch import MAX_BATCH_BYTES

DENSE = [b'{"":{}}', b"1", b"[]", b"{}", b'""', b"[[[[]]]]", b'{"":[]}', b"1e1", b'"},{"']


def split(content: bytes) -> list[bytes]:
    return [bytes(each) for each in itertools.chain.from_iterable(split_array(content))]


def array(piece: bytes, size: int = MAX_BATCH_BYTES) -> bytes:
    count = size // (len(piece) + 1) - 2
    return b"[%b%b]" % ((piece + b",") * (count - 1), piece)


@pytest.mark.parametrize("between", [b",", b", ", b" ,\r\n  "])
@pytest.mark.parametrize(
    "element",
    [
        b'{"a":{"b":{}},"c":"' + 700 * b"x" + b'"}',
        b'{"a":[{},{},{"x":"\\"},{"}]}' + 700 * b" ",
        b'{"a":"},{"}' + 700 * b" ",
        b'{"a":[%b],"b":1}' % b",".join([b'{"c":{}}'] * 80),
        b"1" + 700 * b" ",
    ],
)
def test_a_large_array_is_split_like_a_small_one(element: bytes, between: bytes) -> None:
    content = b" [%b] \n" % between.join([element] * 5_000)
    assert len(content) > 10 * BLOCK
    assert split(content) == [element.rstrip()] * 5_000


@pytest.mark.parametrize("at", [0, 2_000, 4_999])
@pytest.mark.parametrize(
    "large",
    [
        b'"%b"' % ((1 << 20) * b"x"),
        b'{"x":"%b"}' % (b"},{" * 300_000),
        b'{"x":[%b]}' % b",".join([b"{}"] * 300_000),
        b"[%b]" % b", ".join([b"[{}, {}]"] * 100_000),
    ],
)
def test_a_large_element_is_kept_whole(at: int, large: bytes) -> None:
    elements = [b'{"a":{"b":{}},"c":1}'] * 5_000
    elements[at] = large
    assert split(b"[%b]" % b",".join(elements)) == elements


@pytest.mark.parametrize(
    "content",
    [
        array(b'{"a":1}' + 100 * b" ", BLOCK * 2)[:-1],
        array(b'{"a":1}' + 100 * b" ", BLOCK * 2) + b"1",
        array(b'{"a":1}' + 100 * b" ", BLOCK * 2)[:-1] + b",]",
        b"[,%b" % array(b'{"a":1}' + 100 * b" ", BLOCK * 2)[1:],
        array(b'{"a":1},' + 100 * b" ", BLOCK * 2),
        array(b'{"a":1}]' + 100 * b" ", BLOCK * 2),
        array(b'{"a":1}' + 100 * b" ", BLOCK * 2)[:-1] + b',"\xff"]',
        array(b"", MAX_BATCH_BYTES),
        b"[" * MAX_BATCH_BYTES,
        b"[" + b" " * MAX_BATCH_BYTES,
        b'["%b"]' % (b"x" * MAX_BATCH_BYTES),
    ],
)
def test_invalid_arrays_are_refused(content: bytes) -> None:
    with pytest.raises(BodyError):
        split(content)


@pytest.mark.parametrize("count", [MAX_ELEMENTS, MAX_ELEMENTS + 1])
def test_elements_are_counted_over_all_blocks(count: int) -> None:
    content = b"[%b]" % b",".join([b'{"a":"%b"}' % (200 * b"x")] * count)
    if count <= MAX_ELEMENTS:
        assert len(split(content)) == count
    else:
        with pytest.raises(TooManyElementsError):
            split(content)


json_values = st.recursive(
    st.none() | st.integers() | st.sampled_from(["},{", '"},{"', "\\", "]", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "},{"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(
    st.lists(json_values, max_size=12),
    st.sampled_from([None, 1]),
    st.data(),
)
def test_the_block_size_does_not_change_what_is_accepted(
    values: list[object], indent: int | None, data: st.DataObject
) -> None:
    """With blocks of a few bytes, the result equals that of Python's json, or the array is
    refused."""
    text = json.dumps(values, indent=indent)
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.sampled_from(["", ",", "]", "[", "}", '"', " "])) + text[at:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BLOCK", 8)
        patch.setattr(arrays, "MAX_BLOCK", 32)
        try:
            found = [json.loads(each) for each in split(text.encode())]
        except BodyError:
            return
    assert found == json.loads(text)


@pytest.mark.parametrize("piece", DENSE)
@pytest.mark.parametrize("nested", [False, True])
def test_decoding_a_block_takes_bounded_time(piece: bytes, nested: bool) -> None:
    """Allows for a machine that is 2.5 times slower: each block must stay below 50 ms."""
    content = b'[{"x":%b}]' % array(piece, MAX_BATCH_BYTES - 8) if nested else array(piece)

    def slowest() -> float:
        times = [time.thread_time()]
        try:
            times.extend(time.thread_time() for _ in split_array(content))
        except (BodyError, TooManyElementsError):
            times.append(time.thread_time())
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    assert min(slowest() for _ in range(3)) < 0.02
