"""JSON arrays of a stranger's: split into elements, no more of them than are allowed."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from gateway.decoding import JsonDecoder

MAX_ELEMENTS = 10_000
"""Elements that an array may have."""

_SMALL = 65_536
"""Bytes of an array whose elements are not too many to count them when they are there."""

_list = JsonDecoder(list[Raw])


class TooManyElementsError(ValueError):
    """The array has more than MAX_ELEMENTS elements; none of them was decoded."""


def split_array(content: bytes) -> Sequence[Raw]:
    """Split an array into its elements, in memory that does not grow with their number.

    Raises:
        BodyError: it is not an array.
        TooManyElementsError: it has more than MAX_ELEMENTS elements.
    """
    if len(content) <= _SMALL:
        elements: Sequence[Raw] = _list.decode(content)
    else:
        fields = astuple(_bounded().decode(content))
        elements = list(itertools.takewhile(lambda element: element is not None, fields))
    if len(elements) > MAX_ELEMENTS:
        raise TooManyElementsError
    return elements


@functools.cache
def _bounded() -> JsonDecoder[Any]:
    """Decoder of an array that keeps one element more than are allowed, and skips the rest.

    A list would have an object of 60 bytes for every `1,` of a body.
    """
    fields = [(f"element{place}", Raw, None) for place in range(MAX_ELEMENTS + 1)]
    return JsonDecoder(msgspec.defstruct("Elements", fields, array_like=True, gc=False))
