"""Dead letters: data that could not be processed, with its source and the reason in the headers."""

from collections.abc import Iterable

import msgspec

WHOLE_FRAME = -1
"""Index of a letter that holds a whole record: the record could not be decoded."""
CORRUPT_ROW = -2
"""Index of a letter that holds a row: the row could not be decoded, and a new one replaced it."""
MAX_REASON = 1000
ENCODING = "zstd"
"""Value of the header `encoding` of a compressed letter."""


class DeadLetterError(ValueError):
    """A record of the dead-letter topic without valid headers."""


class DeadLetterSource(msgspec.Struct, frozen=True):
    """Why a letter was written, and the position of its data in the submissions topic.

    `offset` (logical) and `index` are a position in the source partition that has the same number
    as the letter's partition. `appended` is the append time in milliseconds. `shift` is the logical
    offset minus Kafka's offset (contract.history). `truncated_from` is the original size in bytes
    if the letter holds only the start of the data. `is_compressed`: its value is in zstd.
    """

    reason: str
    offset: int
    index: int
    appended: int
    truncated_from: int | None = None
    shift: int = 0
    is_compressed: bool = False

    @property
    def source_offset(self) -> int:
        """Kafka's offset of the record."""
        return self.offset - self.shift


def encode_source(source: DeadLetterSource) -> list[tuple[str, bytes]]:
    headers = {
        "reason": source.reason[:MAX_REASON],
        "offset": str(source.offset),
        "index": str(source.index),
        "appended": str(source.appended),
    }
    if source.truncated_from is not None:
        headers["truncated-from"] = str(source.truncated_from)
    if source.is_compressed:
        headers["encoding"] = ENCODING
    if source.shift:
        headers["shift"] = str(source.shift)
    return [(name, text.encode("utf-8", "replace")) for name, text in headers.items()]


def decode_source(headers: Iterable[tuple[str, bytes]]) -> DeadLetterSource:
    """Decode a letter's headers.

    Raises:
        DeadLetterError: a header is missing or is not a number where one is required.
    """
    found = {name: value.decode("utf-8", "replace") for name, value in headers}
    try:
        truncated = found.get("truncated-from")
        return DeadLetterSource(
            reason=found["reason"],
            offset=int(found["offset"]),
            index=int(found["index"]),
            appended=int(found["appended"]),
            truncated_from=None if truncated is None else int(truncated),
            shift=int(found.get("shift", 0)),
            is_compressed=found.get("encoding") == ENCODING,
        )
    except (KeyError, ValueError) as error:
        raise DeadLetterError(f"invalid dead-letter headers: {error!r}") from error
