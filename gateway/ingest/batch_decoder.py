"""Items of a batch: submissions of many entities, each of which may be rejected by itself.

Most batches are small and hold only plain items: these are decoded in one call. Every other batch
is decoded item by item, which tells the bad ones, and lets the caller yield between two items.
Both ways accept the same items.
"""

import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from contract.kinds import KINDS, EntityKind
from gateway.body.arrays import MAX_ELEMENTS, TooManyElementsError, split_array
from gateway.body.json import BODY, BodyError, JsonDecoder
from gateway.ingest.decoder import (
    MAX_SUBMISSION_BYTES,
    BodyDecoder,
    ParsedBody,
    require_size,
    try_fast_decode,
)
from gateway.ingest.schema import build_canonical_struct, build_struct

MAX_ITEMS = MAX_ELEMENTS
"""Items that a batch may have."""
MAX_WHOLE = 1024 * 1024
"""Bytes of a batch that may be decoded in one call: at most 20 ms of CPU."""
_BLOCK = MAX_SUBMISSION_BYTES // 2

Id = Annotated[str, Meta(min_length=1, max_length=128)]


_SEPARATOR = re.compile(rb'\}[ \t\r\n]*+,[ \t\r\n]*+\{[ \t\r\n]*+"[a-z]')
"""Between two items; within one that is plain and has no unknown fields, nothing matches. Such an
item has no arrays, and no string has a quote in it, followed by a letter."""
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
"""A line that is not empty. It begins after the characters that are white space to JSON."""


class Item(Protocol):
    """A submission of one entity. One without a `body` is plain, unless a `fault` says what is
    wrong with it: then there may be no `id` either."""

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def body(self) -> ParsedBody | None: ...
    @property
    def fault(self) -> str: ...


class DecodedItem(NamedTuple):
    """An item that was decoded for itself."""

    kind: str
    id: str | None
    body: ParsedBody | None
    fault: str = ""


class _ItemHeader(msgspec.Struct):
    kind: str
    id: Id


class BatchDecoder:
    """Decodes batches."""

    def __init__(self) -> None:
        self._bodies = {name: BodyDecoder(kind) for name, kind in KINDS.items()}
        item: Any = _plain_item_type()
        strict: Any = _plain_item_type(forbid_unknown_fields=True)
        self._item = msgspec.json.Decoder(item)
        self._array = msgspec.json.Decoder(list[item])
        self._large_array = msgspec.json.Decoder(list[strict])
        self._header = JsonDecoder(_ItemHeader)

    def decode_array(self, content: bytes, now: float) -> list[Item] | Iterator[Item | None]:
        """Decode a JSON array. It is one document: if it is invalid, none of its items is accepted.

        Raises:
            BodyError: it is not an array; raised by the iterator, before its first item.
            TooManyElementsError: it has more than MAX_ITEMS items; in the same way.
        """
        plain: list[Item] | None = None
        if len(content) <= MAX_SUBMISSION_BYTES:
            plain = try_fast_decode(self._array.decode, content)
        elif len(content) <= MAX_WHOLE and _has_small_items(content):
            plain = try_fast_decode(self._large_array.decode, content)
        if plain is not None and len(plain) <= MAX_ITEMS:
            return plain
        return self.decode_each(split_array, content, now)

    def decode_lines(self, content: bytes, now: float) -> list[Item] | Iterator[Item | None]:
        """Decode lines, each of them one JSON document; empty lines are skipped.

        Raises:
            TooManyElementsError: there are more than MAX_ITEMS; raised by the iterator.
        """
        plain = (
            try_fast_decode(self._decode_plain_lines, content)
            if len(content) <= MAX_WHOLE
            else None
        )
        if plain is not None and len(plain) <= MAX_ITEMS:
            return plain
        return self.decode_each(split_lines, content, now)

    def _decode_plain_lines(self, content: bytes) -> list[Item]:
        """
        Raises:
            msgspec.MsgspecError: a line is empty, or is not a plain item.
            BodyError: a line is too large.
        """
        # Not by decode_lines: msgspec takes any white space for a line end.
        lines = content.removesuffix(b"\n").split(b"\n")
        require_size(max(lines, key=len))
        return list(map(self._item.decode, lines))

    def decode_each(
        self, split: Callable[[bytes], Iterable[Sequence[Any]]], content: bytes, now: float
    ) -> Iterator[Item | None]:
        """Decode item by item what `split` makes of a batch, block by block.

        Yields None for each block, before the first item.

        Raises:
            BodyError, TooManyElementsError: as `split` does.
        """
        parts: list[Any] = []
        for block in split(content):
            parts.extend(block)
            yield None
        for part in parts:
            yield self._decode_one(bytes(part), now)

    def _decode_one(self, content: bytes, now: float) -> Item:
        kind, id = "", None
        try:
            require_size(content)
            plain: Item | None = try_fast_decode(self._item.decode, content)
            if plain is not None:
                return plain
            head = self._header.decode(content)
            kind, id = head.kind, head.id
            if kind not in KINDS:
                raise BodyError("kind", "must be one of " + ", ".join(KINDS))
            return DecodedItem(kind, id, self._bodies[kind].decode_field_by_field(content, now))
        except BodyError as error:
            return DecodedItem(kind, id, None, str(error).removeprefix(f"{BODY}: "))


def _has_small_items(content: bytes) -> bool:
    """Tell whether each item of an array is small enough, if all are plain without unknown fields.

    There must be a separator in each block of half of an item's largest size.
    """
    return all(
        _SEPARATOR.search(content, start, start + _BLOCK)
        for start in range(0, len(content) - _BLOCK, _BLOCK)
    )


def split_lines(content: bytes) -> Iterator[list[bytes]]:
    """Split a batch into its lines that are not empty, block by block.

    Raises:
        TooManyElementsError: there are more than MAX_ITEMS lines that are not empty.
    """
    at, count = 0, 0
    while at < len(content):
        end = content.find(b"\n", at + MAX_WHOLE)
        if end < 0:
            end = len(content)
        lines = itertools.islice(_LINE.finditer(content, at, end), MAX_ITEMS + 1 - count)
        block = [line[0] for line in lines]
        count += len(block)
        if count > MAX_ITEMS:
            raise TooManyElementsError
        yield block
        at = end + 1


def _plain_item_type(**options: Any) -> Any:
    """Make the union of the structs of all kinds' plain items."""
    structs = (_build_canonical_item_struct(kind, options) for kind in KINDS.values())
    return functools.reduce(operator.or_, structs)


def _build_canonical_item_struct(kind: EntityKind, options: dict[str, Any]) -> Any:
    more = {"kind": kind.name, "body": None, "fault": ""}
    tag = {"tag_field": "kind", "tag": kind.name}
    return build_canonical_struct(kind, [("id", Id)], namespace=more, **tag, **options)


def build_item_struct(kind: EntityKind) -> type[Any]:
    """Make the struct of a kind's items, for the API's description."""
    return build_struct(kind, "Item", [("id", Id)], tag_field="kind", tag=kind.name)
