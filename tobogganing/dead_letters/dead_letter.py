"""Dead letters as a command shows and chooses them. Pure."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from contract.dead_letter import (
    CORRUPT_ROW,
    WHOLE_FRAME,
    DeadLetterError,
    DeadLetterSource,
    decode_source,
)
from contract.position import Receipt
from tobogganing.time_param import format_time

_ID = re.compile(r"(\d{1,9})-(\d{1,18})", re.ASCII)


class DeadLetterId(NamedTuple):
    """Where a letter is in the dead-letter topic: `partition-offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id.

        Raises:
            ValueError: it is none.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no dead letter: expected partition-offset")
        return cls(int(match[1]), int(match[2]))


class DeadLetterRecord(NamedTuple):
    """One record of the dead-letter topic; `appended_ms` is its append time in milliseconds."""

    id: DeadLetterId
    appended_ms: int
    origin: DeadLetterSource
    value: bytes

    @property
    def source(self) -> str:
        """What it was: the receipt of a submission, or the offset of a frame."""
        place = f"{self.id.partition}-{self.origin.source_offset}"
        match self.origin.index:
            case index if index >= 0:
                source = self.origin
                return str(Receipt(self.id.partition, source.source_offset, index, source.appended))
            case index if index == WHOLE_FRAME:
                return f"frame {place}"
            case index if index == CORRUPT_ROW:
                return f"a row, found by {place}"
        return "unknown"

    def document(self) -> dict[str, Any]:
        """What `--json` lists."""
        document = {
            "id": str(self.id),
            "written_at": format_time(self.appended_ms),
            "reason": self.origin.reason,
            "partition": self.id.partition,
            "offset": self.origin.source_offset,
            "index": self.origin.index,
            "appended_at": format_time(self.origin.appended),
            "size": self.origin.truncated_from or len(self.value),
        }
        if self.origin.truncated_from is not None:
            document["kept"] = len(self.value)
        return document


def to_dead_letter(
    id: DeadLetterId, written: int, headers: Iterable[tuple[str, bytes]], value: bytes | None
) -> DeadLetterRecord:
    """Make a letter of a record, whatever it is."""
    try:
        source = decode_source(headers)
    except DeadLetterError as error:
        source = DeadLetterSource(str(error), -1, CORRUPT_ROW - 1, written)
    return DeadLetterRecord(id, written, source, value or b"")


class DeadLetterFilter(NamedTuple):
    """Which letters are meant; `since` is in milliseconds since the epoch."""

    partition: int | None = None
    since: int | None = None
    reason: str | None = None
    """A text that the reason has in it, in upper or lower case."""

    def matches(self, letter: DeadLetterRecord) -> bool:
        if self.since is not None and letter.appended_ms < self.since:
            return False
        return self.reason is None or self.reason.casefold() in letter.origin.reason.casefold()


def pretty(value: bytes) -> str:
    """Bytes for people: indented where they are JSON, else with everything odd escaped."""
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=True)
    except (ValueError, RecursionError):
        return repr(value)[2:-1]


def content(value: bytes) -> dict[str, str]:
    """Bytes for programs: `value` where they are text, else `value_base64`."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}
