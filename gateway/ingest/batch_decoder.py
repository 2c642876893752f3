"""Decodes the items of a batch: submissions of many entities, each of which may be rejected alone.

Most batches are small and contain only canonical items; these are decoded in one call. Other
batches are decoded item by item, which finds the invalid items and lets the caller yield between
two items. Both ways accept the same items.
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
"""Maximum number of items of a batch."""
MAX_WHOLE = 1024 * 1024
"""Maximum bytes of a batch that is decoded in one call: at most 20 ms of CPU."""
_BLOCK = MAX_SUBMISSION_BYTES // 2

Id = Annotated[str, Meta(min_length=1, max_length=128)]


_SEPARATOR = re.compile(rb'\}[ \t\r\n]*+,[ \t\r\n]*+\{[ \t\r\n]*+"[a-z]')
"""The separator between two items. It does not occur within a canonical item without unknown
fields: such an item has no arrays, and its strings contain no quote followed by a letter."""
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
"""A non-empty line, without leading JSON white space."""


class Item(Protocol):
    """A submission of one entity. An item with a `fault` is invalid, and may have no `id`. A valid
    item without a `body` is itself a canonical body."""

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def body(self) -> ParsedBody | None: ...
    @property
    def fault(self) -> str: ...


class DecodedItem(NamedTuple):
    """An item that was decoded separately."""

    kind: str
    id: str | None
    body: ParsedBody | None
    fault: str = ""


class _ItemHeader(msgspec.Struct):
    kind: str
    id: Id


class BatchDecoder:
    """Decodes batches in JSON or NDJSON."""

    def __init__(self) -> None:
        self._bodies = {name: BodyDecoder(kind) for name, kind in KINDS.items()}
        item: Any = _plain_item_type()
        strict: Any = _plain_item_type(forbid_unknown_fields=True)
        self._item = msgspec.json.Decoder(item)
        self._array = msgspec.json.Decoder(list[item])
        self._large_array = msgspec.json.Decoder(list[strict])
        self._header = JsonDecoder(_ItemHeader)

    def decode_array(self, content: bytes, now: float) -> list[Item] | Iterator[Item | None]:
        """Decode a JSON array. If the array is not valid JSON, no item is accepted.

        Raises:
            BodyError: the content is not an array; may be raised by the iterator, before its first
                item.
            TooManyElementsError: there are more than MAX_ITEMS items; raised in the same way.
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
        """Decode NDJSON: one JSON document per line; empty lines are skipped.

        Raises:
            TooManyElementsError: there are more than MAX_ITEMS items; raised by the iterator.
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
        """Decode lines in one call.

        Raises:
            msgspec.MsgspecError: a line is empty or not a canonical item.
            BodyError: a line is too large.
        """
        # msgspec's decode_lines treats any white space as the end of a line.
        lines = content.removesuffix(b"\n").split(b"\n")
        require_size(max(lines, key=len))
        return list(map(self._item.decode, lines))

    def decode_each(
        self, split: Callable[[bytes], Iterable[Sequence[Any]]], content: bytes, now: float
    ) -> Iterator[Item | None]:
        """Decode the parts that `split` returns, item by item.

        Yields None for each block, before the first item.

        Raises:
            BodyError, TooManyElementsError: as `split`.
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
    """Return whether each item of an array is small enough, if all items are canonical.

    Each block of half an item's maximum size must contain a separator.
    """
    return all(
        _SEPARATOR.search(content, start, start + _BLOCK)
        for start in range(0, len(content) - _BLOCK, _BLOCK)
    )


def split_lines(content: bytes) -> Iterator[list[bytes]]:
    """Split a batch into its non-empty lines, block by block.

    Raises:
        TooManyElementsError: there are more than MAX_ITEMS non-empty lines.
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
    """Build the union of the canonical item structs of all kinds."""
    structs = (_build_canonical_item_struct(kind, options) for kind in KINDS.values())
    return functools.reduce(operator.or_, structs)


def _build_canonical_item_struct(kind: EntityKind, options: dict[str, Any]) -> Any:
    constants = {"kind": kind.name, "body": None, "fault": ""}
    tag = {"tag_field": "kind", "tag": kind.name}
    return build_canonical_struct(kind, [("id", Id)], constants, **tag, **options)


def build_item_struct(kind: EntityKind) -> type[Any]:
    """Build the struct of a kind's items for the OpenAPI document."""
    return build_struct(kind, "Item", [("id", Id)], tag_field="kind", tag=kind.name)
