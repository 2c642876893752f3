"""Items of a batch: submissions of many entities, each of which may be bad for itself.

Most batches hold nothing but plain items: these are decoded in one call. If that fails, every item
is decoded for itself, to tell which is at fault.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar, cast

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import astuple

from contract.kinds import KINDS, EntityKind
from gateway.bodies import Body, BodyDecoder, declare, declare_plain, plainly
from gateway.decoding import BODY, BodyError, JsonDecoder

MAX_ITEMS = 10_000
"""Items that a batch may have."""

Id = Annotated[str, Meta(min_length=1, max_length=128)]


_LINE = re.compile(rb"\S[^\n]*")


T = TypeVar("T")


class TooManyItemsError(ValueError):
    """A batch of more than MAX_ITEMS items, of which none was looked at."""


class Item(Protocol):
    """A submission of one entity. One without a `body` is plain, unless a `fault` says what is
    wrong with it: then there may be no `id` either."""

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def body(self) -> Body | None: ...
    @property
    def fault(self) -> str: ...


class Decoded(NamedTuple):
    """An item that was decoded for itself."""

    kind: str
    id: str | None
    body: Body | None
    fault: str = ""


class _Head(msgspec.Struct):
    kind: str
    id: Id


class ItemsDecoder:
    """Decodes batches."""

    def __init__(self) -> None:
        self._bodies = {name: BodyDecoder(kind) for name, kind in KINDS.items()}
        item: Any = None
        for kind in KINDS.values():
            struct = _declare_plain_item(kind)
            item = struct if item is None else item | struct
        self._item = msgspec.json.Decoder(item)
        self._array = msgspec.json.Decoder(list[item])
        self._parts = JsonDecoder(_parts())
        self._head = JsonDecoder(_Head)

    def decode_array(self, content: bytes, now: float) -> list[Item] | Iterator[Item]:
        """Decode a JSON array. It is one document: if it is none, nothing of it counts.

        Raises:
            BodyError: it is no array; an iterator raises it with its first item.
            TooManyItemsError: it has more than MAX_ITEMS items; in the same way.
        """
        plain = plainly(self._array.decode, content)
        if plain is not None:
            return _few(plain)
        return self._decode_parts(content, now)

    def decode_lines(self, content: bytes, now: float) -> list[Item] | Iterator[Item]:
        """Decode lines, each a JSON document; empty ones count for nothing.

        Raises:
            TooManyItemsError: there are more than MAX_ITEMS.
        """
        plain = plainly(cast(Callable[[bytes], list[Item]], self._item.decode_lines), content)
        if plain is not None:
            return _few(plain)
        lines = itertools.islice(_LINE.finditer(content), MAX_ITEMS + 1)
        return self._decode_each(_few([line[0] for line in lines]), now)

    def _decode_parts(self, content: bytes, now: float) -> Iterator[Item]:
        parts = astuple(self._parts.decode(content))
        if _is_there(parts[MAX_ITEMS]):
            raise TooManyItemsError
        for part in itertools.takewhile(_is_there, parts):
            yield self._decode_one(bytes(part), now)

    def _decode_each(self, lines: list[bytes], now: float) -> Iterator[Item]:
        for line in lines:
            yield self._decode_one(line, now)

    def _decode_one(self, content: bytes, now: float) -> Item:
        plain: Item | None = plainly(self._item.decode, content)
        if plain is not None:
            return plain
        kind, id = "", None
        try:
            head = self._head.decode(content)
            kind, id = head.kind, head.id
            if kind not in KINDS:
                raise BodyError("kind", "must be one of " + ", ".join(KINDS))
            return Decoded(kind, id, self._bodies[kind].decode(content, now))
        except BodyError as error:
            return Decoded(kind, id, None, str(error).removeprefix(f"{BODY}: "))


def _few(items: list[T]) -> list[T]:
    if len(items) > MAX_ITEMS:
        raise TooManyItemsError
    return items


def _is_there(part: Raw | None) -> bool:
    return part is not None


@functools.cache
def _parts() -> type[Any]:
    """Make the type of an array of which only so much is kept as a batch may have, and one more.

    A list would have an object of 60 bytes for every `1,` of a body.
    """
    fields = [(f"part{place}", Raw, None) for place in range(MAX_ITEMS + 1)]
    return msgspec.defstruct("Parts", fields, array_like=True, gc=False)


def _declare_plain_item(kind: EntityKind) -> type[Any]:
    more = {"kind": kind.name, "body": None, "fault": ""}
    return declare_plain(kind, [("id", Id)], tag_field="kind", tag=kind.name, namespace=more)


def declare_item(kind: EntityKind) -> type[Any]:
    """Make the struct of a kind's items, for the API's description."""
    return declare(kind, "Item", [("id", Id)], tag_field="kind", tag=kind.name)
