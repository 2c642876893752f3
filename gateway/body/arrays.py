"""Splits JSON arrays from clients into elements, block by block, so that no single call takes long.

Skipping JSON takes up to 3 ns per byte, which is too long for 8 MiB in one call. But a prefix of an
array that is valid once it is closed ends at the end of an element. So a block is cut where an
element probably ends, and decoding the block confirms it.
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
"""Maximum number of elements of an array."""
BLOCK = 256 * 1024
"""Bytes that are decoded in one call."""
MAX_BLOCK = 8 * BLOCK
"""Bytes that are decoded in one call if no element ends in a smaller block: at most 6 ms of CPU."""

_SMALL = 65_536
"""Maximum bytes of a block whose elements are counted after decoding."""
_TAIL = 65_536
"""Length of the part in which a block is probably cut; the largest accepted item fits in it."""
_MATCHES = 4_096
"""Maximum number of separators that are examined in a tail, for arrays of tiny objects."""
_TAILS, _COMMAS = 4, 2
"""Number of tails of a block that are searched, and of commas that are tried in each."""
_BEGIN = re.compile(rb"[ \t\r\n]*+\[")
_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r\n]*+(,)[ \t\r\n]*+\{")

_list = JsonDecoder(list[Raw])
_bounded: JsonDecoder[Any] = JsonDecoder(
    msgspec.defstruct(
        "Elements",
        [(f"element{index}", Raw, None) for index in range(MAX_ELEMENTS + 1)],
        array_like=True,
        gc=False,
    )
)
"""Decodes MAX_ELEMENTS + 1 elements and skips the rest; `list[Raw]` would allocate 60 bytes for
every `1,`. Built at import, because that takes 20 ms."""


class TooManyElementsError(ValueError):
    """The array has more than MAX_ELEMENTS elements."""


def split_array(content: bytes) -> Iterator[Sequence[Raw]]:
    """Split an array into its elements, with bounded memory.

    Yields blocks of elements. An empty block is a failed attempt or an empty array.

    Raises:
        BodyError: the content is not an array, or no element ends within MAX_BLOCK.
        TooManyElementsError: the array has more than MAX_ELEMENTS elements.
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
            fault = f"is not valid JSON after byte {at}, or contains a too large element there"
            raise BodyError(BODY, fault)


def _beginnings(content: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """Yield candidates for the next block: an array, and the position after it.

    The first element starts at `at`. The last candidate is the rest of the content, if it is short.
    """
    for size in (BLOCK, MAX_BLOCK):
        end = at + size
        if end >= len(content):
            yield b"[" + content[at:], len(content)
            return
        for cut in _cuts(content, at, end):
            yield b"[%b]" % content[at:cut], cut + 1


def _cuts(content: bytes, at: int, end: int) -> Iterator[int]:
    """Yield commas that probably separate elements, most likely first."""
    for tail_end in range(end, end - _TAILS * _TAIL, -_TAIL):
        yield from _outermost(content, max(at, tail_end - _TAIL), tail_end)
    comma = content.rfind(b",", at, end)
    if comma >= 0:
        yield comma


def _outermost(content: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the last commas between the least nested objects in a part of the content.

    The search does not recognise strings, so several candidates are tried.
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
    """Decode an array in one call; return at most MAX_ELEMENTS + 1 elements.

    Raises:
        BodyError: it is not a valid array.
    """
    if len(array) <= _SMALL:
        elements: Sequence[Raw] = _list.decode(array)
        return elements
    fields = astuple(_bounded.decode(array))
    return list(itertools.takewhile(lambda element: element is not None, fields))


def _decode_valid(array: bytes) -> Sequence[Raw]:
    """Decode an array; return no elements if it is not valid."""
    try:
        return _decode(array)
    except BodyError:
        return ()
