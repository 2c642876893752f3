"""Dead letters: what could not be processed. The value is the data, headers say whence and why."""

from collections.abc import Iterable

import msgspec

WHOLE_FRAME = -1
"""Index of a letter that holds a whole record: it could not be taken apart."""
CORRUPT_ROW = -2
"""Index of a letter that holds a row: it could not be read, and was begun anew."""
MAX_REASON = 1000


class DeadLetterError(ValueError):
    """A record of the dead-letter topic without its headers."""


class DeadLetterSource(msgspec.Struct, frozen=True):
    """Why a letter was written, and where its data was found.

    `offset` and `index` are the position of a submission, in the partition of the letter's own
    number; `appended` is when that was appended, in milliseconds. `shift` is what Kafka's offset
    differs by (contract.history). `truncated_from` is the size of the data where the letter holds
    only its beginning.
    """

    reason: str
    offset: int
    index: int
    appended: int
    truncated_from: int | None = None
    shift: int = 0

    @property
    def source_offset(self) -> int:
        """Kafka's offset of the record."""
        return self.offset - self.shift


def encode_source(source: DeadLetterSource) -> list[tuple[str, bytes]]:
    """Encode a letter's headers."""
    headers = {
        "reason": source.reason[:MAX_REASON],
        "offset": str(source.offset),
        "index": str(source.index),
        "appended": str(source.appended),
    }
    if source.truncated_from is not None:
        headers["truncated-from"] = str(source.truncated_from)
    if source.shift:
        headers["shift"] = str(source.shift)
    return [(name, text.encode("utf-8", "replace")) for name, text in headers.items()]


def decode_source(headers: Iterable[tuple[str, bytes]]) -> DeadLetterSource:
    """Decode a letter's headers.

    Raises:
        DeadLetterError: one is missing, or is no number where it must be.
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
        )
    except (KeyError, ValueError) as error:
        raise DeadLetterError(f"not a dead letter's headers: {error!r}") from error
