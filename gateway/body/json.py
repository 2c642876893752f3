"""Decodes JSON bodies into structs, and converts msgspec's errors into messages with the field's
path."""

import itertools
import re
from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

import msgspec

from service.http.errors import ApiError

BODY = "body"
"""Field of an error that concerns the whole document."""

MAX_IGNORED_NAMES = 20
MAX_IGNORED_LENGTH = 64
"""Unknown names that a response lists, and characters of each."""

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_AT = " - at `$"
"""Precedes the path of the field in msgspec's messages."""
_MISSING = re.compile(r"Object missing required field `(.+)`")
_QUOTED = re.compile(r"`([^`]*)`")
_WORDS = {
    "int | float": "a number",
    "float": "a number",
    "int": "an integer",
    "str": "a string",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "str | null": "a string",
}


class BodyError(ApiError, ValueError):
    """400: a body is not valid; `field` is the dotted path of the invalid field."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(400, f"{field}: {fault}", field=field)
        self.field = field
        self._fault = fault

    def within(self, path: str) -> "BodyError":
        """Return the same error for a part of the body at `path`."""
        return BodyError(path if self.field == BODY else f"{path}.{self.field}", self._fault)


class JsonDecoder(Generic[T]):
    """Decodes bodies of one declared type."""

    def __init__(self, type: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(type)

    def decode(self, body: bytes) -> T:
        """Decode a body.

        Raises:
            BodyError: it is not valid JSON, or not of the declared type.
        """
        try:
            if not body.isascii():
                body.decode()  # msgspec does not validate the text of skipped values
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _fault(str(error)) from error
        except UnicodeDecodeError as error:
            raise BodyError(BODY, "is not UTF-8") from error
        except RecursionError as error:
            raise BodyError(BODY, "is nested too deeply") from error
        # msgspec's errors, and ValueError for integers with more digits than Python converts.
        except (msgspec.MsgspecError, ValueError) as error:
            raise BodyError(BODY, f"is not valid JSON: {error}") from error


class StructDecoder(JsonDecoder[S]):
    """Decodes objects, and names their unknown fields."""

    def __init__(self, type: type[S]) -> None:
        super().__init__(type)
        self._names = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._fields = frozenset(type.__struct_encode_fields__)

    def unknown_fields(self, body: bytes) -> list[str]:
        """The names of a decoded body that its type does not declare, as a response lists them."""
        return ignored_names(self._names.decode(body), self._fields)


def ignored_names(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return unknown names: sorted, shortened, and at most MAX_IGNORED_NAMES."""
    unknown = (name[:MAX_IGNORED_LENGTH] for name in names if name not in known)
    return sorted(itertools.islice(unknown, MAX_IGNORED_NAMES))


def _fault(message: str) -> BodyError:
    fault, _, path = message.rpartition(_AT) if _AT in message else (message, "", "")
    path = path.removeprefix(".").removesuffix("`")
    missing = _MISSING.fullmatch(fault)
    if missing is not None:
        return BodyError(".".join(filter(None, (path, missing[1]))), "is missing")
    fault = _QUOTED.sub(lambda quoted: _WORDS.get(quoted[1], quoted[1]), fault)
    return BodyError(path or BODY, fault[0].lower() + fault[1:])
