"""Decoding of batches: both ways agree, and use little more memory than the batch."""

import contextlib
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.body.arrays import TooManyElementsError, split_array
from gateway.body.json import BodyError
from gateway.ingest import batch_decoder as module
from gateway.ingest import decoder as bodies_module
from gateway.ingest.batch import MAX_BATCH_BYTES
from gateway.ingest.batch_decoder import MAX_WHOLE, BatchDecoder, Item, split_lines
from gateway.ingest.decoder import MAX_NAMES, MAX_SUBMISSION_BYTES
from service.slices import SLICE_SECONDS
from tests.hostile.bodies import HOSTILE_ITEMS

NOW = 1_700_000_000.0


@pytest.mark.parametrize("piece", [b"1", b"{}", b'"a"', b"[]"])
@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_a_batch_of_millions_of_tiny_items_uses_bounded_memory(piece: bytes, lines: bool) -> None:
    count = MAX_BATCH_BYTES // (len(piece) + 1) - 2
    content = (piece + b"\n") * count if lines else b"[%b1]" % ((piece + b",") * count)
    decoder = BatchDecoder()
    decode = decoder.decode_lines if lines else decoder.decode_array
    tracemalloc.start()
    try:
        with pytest.raises(TooManyElementsError):
            list(decode(content, NOW))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_BATCH_BYTES


decoder = BatchDecoder()
ITEM = b'{"kind":"client","id":"a","metrics":{"bytes_sent":1}}'
OVER_TWO_LINES = ITEM.replace(b',"id"', b'\n,"id"')
Told = list[tuple[str, str | None, str]] | str


def told(decode: Callable[[], Iterable[Item | None]]) -> Told:
    try:
        return [(item.kind, item.id, item.fault) for item in decode() if item is not None]
    except (BodyError, TooManyElementsError) as error:
        return repr(error)


def faults(decode: Callable[[], Iterable[Item | None]]) -> list[str]:
    return [item.fault for item in decode() if item is not None]


def told_of_line(line: bytes) -> tuple[str, str | None, str]:
    (_, item) = decoder.decode_each(lambda line: [[line]], line, NOW)
    assert item is not None
    return item.kind, item.id, item.fault


tokens = st.sampled_from([ITEM, b"{", b"}", b'"kind":"client"', b'"id":"a"', b'"metrics":{}', b"1"])
between = st.sampled_from(
    [b"", b"\n", b"\r\n", b"\r", b" ", b",", b",\n", b"\n\n", b"\x0b", b"\x0c"]
)
bodies = st.lists(st.tuples(tokens, between), max_size=8).map(
    lambda pieces: b"".join(token + end for token, end in pieces)
)


@given(bodies | st.binary(max_size=50))
@example(ITEM + b"\n" + ITEM)
@example(ITEM + b"\r\n" + ITEM + b"\r\n")
@example(ITEM + ITEM)
@example(ITEM + b"\r" + ITEM)
@example(ITEM + b" " + ITEM + b"\n" + ITEM)
@example(OVER_TWO_LINES)
@example(OVER_TWO_LINES + ITEM)
@example(ITEM.replace(b"{", b"{\n"))
@example(ITEM.replace(b"}}", b"}\n}") + b"\n" + ITEM)
@example(b"\n\n" + ITEM + b"\n \n" + ITEM + b"\n\n")
@example(b"\x0c" + ITEM)
def test_both_ways_of_decoding_lines_agree(content: bytes) -> None:
    each = told(lambda: decoder.decode_each(split_lines, content, NOW))
    assert told(lambda: decoder.decode_lines(content, NOW)) == each
    lines = [line.lstrip(b" \t\r") for line in content.split(b"\n")]
    assert each == [told_of_line(line) for line in lines if line]


@given(bodies)
@example(ITEM + b"," + ITEM)
@example(ITEM + b",")
@example(b"")
def test_both_ways_of_decoding_an_array_agree(content: bytes) -> None:
    array = b"[%b]" % content
    each = told(lambda: decoder.decode_each(split_array, array, NOW))
    assert told(lambda: decoder.decode_array(array, NOW)) == each


MEMBERS = [
    b'"id":"a"',
    b'"id":"},{"',
    b'"id":"},{\\"k"',
    b'"metrics":{"bytes_sent":1}',
    b'"metrics":{}',
    b'"headless":true',
    b'"name":"}, {"',
    b'"x":[{},{"k":1}]',
    b'"x":{"k":{}}',
    b'"x":"' + 60 * b"x" + b'"',
    b'"timestamp":' + 40 * b" " + b"1",
]
members = st.lists(st.sampled_from(MEMBERS), max_size=20)
FIRST = b'{"kind":"client","id":"a","metrics":{}'
REPEATED = FIRST + 20 * b',"metrics":{"bytes_sent":1}' + b"}"
"""An item with a repeated name: valid JSON, in which the last value counts."""


@given(
    st.lists(members.map(lambda more: b",".join([FIRST, *more]) + b"}"), max_size=8),
    st.sampled_from([b",", b" , ", b",\n"]),
)
@example([REPEATED], b",")
@example([REPEATED.replace(b'"metrics"', b'"x"')], b",")
@example([FIRST + 30 * b',"id":"},{"' + b"}"], b",")
@example([FIRST + b',"x":[%b]}' % b",".join(60 * [b'{"k":1}'])], b",")
def test_both_ways_of_decoding_an_array_agree_about_sizes(items: list[bytes], comma: bytes) -> None:
    """With small limits, so that arrays of a few hundred bytes count as large."""
    array = b"[%b]" % comma.join(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_SUBMISSION_BYTES", 200)
        patch.setattr(module, "_BLOCK", 100)
        patch.setattr(bodies_module, "MAX_SUBMISSION_BYTES", 200)
        each = told(lambda: decoder.decode_each(split_array, array, NOW))
        assert told(lambda: decoder.decode_array(array, NOW)) == each


def test_the_size_limit_applies_to_an_item_with_repeated_names() -> None:
    item = FIRST + 8_000 * b',"metrics":{"bytes_sent":1}' + b"}"
    told_of_it = told(lambda: decoder.decode_array(b"[%b]" % item, NOW))
    assert told_of_it == [("", None, "is larger than 65536 bytes")]


@pytest.mark.parametrize(
    "content", [ITEM + ITEM, ITEM + b" " + ITEM, ITEM + b"\r" + ITEM, OVER_TWO_LINES]
)
def test_each_line_is_exactly_one_item(content: bytes) -> None:
    assert all(faults(lambda: decoder.decode_lines(content, NOW)))


def test_plain_lines_are_decoded_in_one_call() -> None:
    for end in (b"\n", b"\r\n"):
        assert isinstance(decoder.decode_lines(end.join([ITEM] * 3), NOW), list)
        assert isinstance(decoder.decode_lines(end.join([ITEM] * 3) + b"\n", NOW), list)


@pytest.mark.parametrize(
    ("metrics", "fault"),
    [
        ({str(number): 1 for number in range(MAX_NAMES - 3)}, ""),
        ({str(number): 1 for number in range(MAX_NAMES - 2)}, "contains more than 1,000 names"),
        ({"x": {str(number): 1 for number in range(MAX_NAMES)}}, "contains more than 1,000 names"),
        ({"x": ':"\\":' * MAX_NAMES}, ""),
    ],
)
def test_the_number_of_names_in_an_item_is_limited(metrics: dict[str, object], fault: str) -> None:
    item = {"kind": "client", "id": "a", "metrics": metrics}
    assert faults(lambda: decoder.decode_array(json.dumps([item]).encode(), NOW)) == [fault]


@pytest.mark.parametrize("size", [MAX_SUBMISSION_BYTES + 1, MAX_WHOLE + 1])
@pytest.mark.parametrize("is_plain", [True, False])
def test_the_size_of_an_item_is_limited_like_that_of_a_submission(
    size: int, is_plain: bool
) -> None:
    padding = b" " * size if is_plain else b'"unknown":"%b",' % (b"x" * size)
    item = ITEM.replace(b'"bytes_sent":1', padding + b'"bytes_sent":1')
    fault = "is larger than 65536 bytes"
    assert faults(lambda: decoder.decode_array(b"[%b,%b]" % (item, ITEM), NOW)) == [fault, ""]
    assert faults(lambda: decoder.decode_array(b"[%b,%b]" % (ITEM, item), NOW)) == ["", fault]
    assert faults(lambda: decoder.decode_lines(b"%b\n%b" % (item, ITEM), NOW)) == [fault, ""]


def test_a_batch_of_many_plain_items_is_decoded_in_one_call() -> None:
    for between in (b",", b", "):
        assert isinstance(decoder.decode_array(b"[%b]" % between.join([ITEM] * 9_999), NOW), list)
    assert isinstance(decoder.decode_lines(b"\n".join([ITEM] * 9_999), NOW), list)


@pytest.mark.parametrize("name", HOSTILE_ITEMS)
@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_each_decoding_step_takes_bounded_time(name: str, lines: bool) -> None:
    """Other requests run between two items, so the CPU time of each step is bounded."""
    items = HOSTILE_ITEMS[name]()

    def slowest() -> float:
        content = items if lines else b"[%b]" % items
        steps = [time.thread_time()]
        decoded = (
            decoder.decode_lines(content, NOW) if lines else decoder.decode_array(content, NOW)
        )
        steps.append(time.thread_time())
        iterator = iter(decoded)
        with contextlib.suppress(BodyError, TooManyElementsError, StopIteration):
            while True:
                next(iterator)
                steps.append(time.thread_time())
        steps.append(time.thread_time())
        return max(later - earlier for earlier, later in itertools.pairwise(steps))

    # the minimum of three, because the machine may be busy
    assert min(slowest() for _ in range(3)) + SLICE_SECONDS < 0.05
