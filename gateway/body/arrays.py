"""JSON arrays from outside, split into elements block by block: no call takes long.

Skipping JSON takes up to 3 ns a byte, which is too long for 8 MiB in one call. But where a prefix
of an array is valid once it is closed, it ends where an element ends. So a block is cut where an
element probably ends, and decoding the block proves it.
"""

import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from gateway.body.json import BODY, BodyError, JsonDecoder

MAX_ELEMENTS = 10_000
"""Elements that an array may have."""
BLOCK = 256 * 1024
"""Bytes that are decoded in one call."""
MAX_BLOCK = 8 * BLOCK
"""The same where no element ends in a smaller block: 6 ms of CPU at most."""

_SMALL = 65_536
"""Bytes of a block whose elements are few enough to be counted after they were decoded."""
_TAIL = 65_536
"""Bytes in which a block is probably cut: the largest item that is accepted ends in them."""
_MATCHES = 4_096
"""The same for objects that are tiny."""
_TAILS, _COMMAS = 4, 2
"""Tails of a block that are searched, and commas of each that are tried."""
_BEGIN = re.compile(rb"[ \t\r\n]*+\[")
_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r\n]*+(,)[ \t\r\n]*+\{")

_list = JsonDecoder(list[Raw])
_bounded: JsonDecoder[Any] = JsonDecoder(
    msgspec.defstruct(
        "Elements",
        [(f"element{place}", Raw, None) for place in range(MAX_ELEMENTS + 1)],
        array_like=True,
        gc=False,
    )
)
"""Keeps one element more than are allowed, and skips the rest: a list would have an object of 60
bytes for every `1,` of a body. It takes 20 ms to make, so it is made at the start."""


class TooManyElementsError(ValueError):
    """The array has more than MAX_ELEMENTS elements."""


def split_array(content: bytes) -> Iterator[Sequence[Raw]]:
    """Split an array into its elements, in memory that does not grow with their number.

    Yields blocks of elements. An empty one is an attempt that failed, or an empty array.

    Raises:
        BodyError: it is not an array, or no element ends within MAX_BLOCK.
        TooManyElementsError: it has more than MAX_ELEMENTS elements.
    """
    begin = _BEGIN.match(content)
    if len(content) <= BLOCK or begin is None:
        block = _decode(content)
        if len(block) > MAX_ELEMENTS:
            raise TooManyElementsError
        yield block
        return
    at, count = begin.end(), 0
    while at < len(content):
        for array, following in _beginnings(content, at):
            block = _decode_valid(array)
            count += len(block)
            if count > MAX_ELEMENTS:
                raise TooManyElementsError
            yield block
            if block:
                at = following
                break
        else:
            fault = f"is not valid JSON after byte {at}, or has too large an element there"
            raise BodyError(BODY, fault)


def _beginnings(content: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """What may be the next elements of an array, as an array, and where the one after them begins.

    The first element is at `at`; the last of the possibilities is the rest, if it is short.
    """
    for size in (BLOCK, MAX_BLOCK):
        end = at + size
        if end >= len(content):
            yield b"[" + content[at:], len(content)
            return
        for cut in _cuts(content, at, end):
            yield b"[%b]" % content[at:cut], cut + 1


def _cuts(content: bytes, at: int, end: int) -> Iterator[int]:
    """Commas that probably separate elements, the likeliest first."""
    for tail_end in range(end, end - _TAILS * _TAIL, -_TAIL):
        yield from _outermost(content, max(at, tail_end - _TAIL), tail_end)
    comma = content.rfind(b",", at, end)
    if comma >= 0:
        yield comma


def _outermost(content: bytes, start: int, end: int) -> Iterator[int]:
    """The last commas between two objects that are nested the least, in a part of some JSON.

    What strings hold is not told from JSON: hence several, of which one is right.
    """
    depth, lowest, previous = 0, 0, start
    commas: deque[int] = deque(maxlen=_COMMAS)
    for match in deque(_BETWEEN_OBJECTS.finditer(content, start, end), _MATCHES):
        comma = match.start(1)
        depth += content.count(b"{", previous, comma) + content.count(b"[", previous, comma)
        depth -= content.count(b"}", previous, comma) + content.count(b"]", previous, comma)
        previous = comma
        if not commas or depth < lowest:
            lowest = depth
            commas.clear()
        if depth == lowest:
            commas.append(comma)
    return reversed(commas)


def _decode(array: bytes) -> Sequence[Raw]:
    """Decode an array in one call; of its elements no more than MAX_ELEMENTS + 1.

    Raises:
        BodyError: it is not an array.
    """
    if len(array) <= _SMALL:
        elements: Sequence[Raw] = _list.decode(array)
        return elements
    fields = astuple(_bounded.decode(array))
    return list(itertools.takewhile(lambda element: element is not None, fields))


def _decode_valid(array: bytes) -> Sequence[Raw]:
    """The same; no elements where it is not valid."""
    try:
        return _decode(array)
    except BodyError:
        return ()
