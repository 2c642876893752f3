"""Items of a batch: submissions of many entities, each of which may be bad for itself.

Most batches hold nothing but plain items: these are decoded in one call. If that fails, every item
is decoded for itself, to tell which is at fault.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, Protocol, cast

import msgspec
from msgspec import Meta, Raw

from contract.kinds import KINDS, EntityKind
from gateway.bodies import Body, BodyDecoder, declare, declare_plain, plainly
from gateway.decoding import BODY, BodyError, JsonDecoder

Id = Annotated[str, Meta(min_length=1, max_length=128)]


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
        self._parts = JsonDecoder(list[Raw])
        self._head = JsonDecoder(_Head)

    def decode_array(self, content: bytes, now: float) -> list[Item] | Iterator[Item]:
        """Decode a JSON array. It is one document: if it is none, nothing of it counts.

        Raises:
            BodyError: it is no array.
        """
        plain = plainly(self._array.decode, content)
        if plain is not None:
            return plain
        return (self._decode_one(bytes(part), now) for part in self._parts.decode(content))

    def decode_lines(self, content: bytes, now: float) -> list[Item] | Iterator[Item]:
        """Decode lines, each a JSON document; empty ones count for nothing."""
        plain = plainly(cast(Callable[[bytes], list[Item]], self._item.decode_lines), content)
        if plain is not None:
            return plain
        return (self._decode_one(line, now) for line in content.split(b"\n") if line.strip())

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


def _declare_plain_item(kind: EntityKind) -> type[Any]:
    more = {"kind": kind.name, "body": None, "fault": ""}
    return declare_plain(kind, [("id", Id)], tag_field="kind", tag=kind.name, namespace=more)


def declare_item(kind: EntityKind) -> type[Any]:
    """Make the struct of a kind's items, for the API's description."""
    return declare(kind, "Item", [("id", Id)], tag_field="kind", tag=kind.name)
