"""Decodes JSON bodies into structs, and converts msgspec's errors into messages with the field's
path."""

import re
from typing import Generic, TypeVar

import msgspec

BODY = "body"
"""Field of an error that concerns the whole document."""

T = TypeVar("T")

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


class BodyError(ValueError):
    """A body is not valid; `field` is the dotted path of the invalid field."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field}: {fault}")
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


def _fault(message: str) -> BodyError:
    fault, _, path = message.rpartition(_AT) if _AT in message else (message, "", "")
    path = path.removeprefix(".").removesuffix("`")
    missing = _MISSING.fullmatch(fault)
    if missing is not None:
        return BodyError(".".join(filter(None, (path, missing[1]))), "is missing")
    fault = _QUOTED.sub(lambda quoted: _WORDS.get(quoted[1], quoted[1]), fault)
    return BodyError(path or BODY, fault[0].lower() + fault[1:])
