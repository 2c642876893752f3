"""The frame: what one record of the submissions topic holds.

A frame carries submissions of one partition, in order, and `deadline_ms`: the earliest deadline of
its members in the broker's time. The gateway answers 200 only if Kafka appended the frame by then,
and the processor applies nothing of a frame that was appended later. Both compare the same two
numbers, so they agree whatever the clocks say.
"""

import zlib
from collections.abc import Iterable

import msgspec

FRAME_VERSION = 1
"""What is written here. Read is every version up to it: a new one must take in those before it."""


class Submission(msgspec.Struct, omit_defaults=True, gc=False):
    """One report of one entity, or (with `removed`) the word that the entity is gone.

    `labels` are those that hold from now on; `default_labels` those that hold where the row has
    none. `timestamp` is the agent's own, in seconds since the epoch.
    """

    kind: str
    id: str
    incarnation: int = msgspec.field(name="generation")
    labels: dict[str, str] = {}
    default_labels: dict[str, str] = msgspec.field(name="fallback", default_factory=dict)
    metrics: dict[str, int | float] = {}
    timestamp: float | None = None
    removed: bool = False


class Frame(msgspec.Struct):
    """`deadline_ms` is in milliseconds since the epoch, in the broker's time."""

    version: int
    deadline_ms: int = msgspec.field(name="answer_by")
    submissions: list[Submission]

    def is_late(self, appended_ms: int) -> bool:
        """Tell whether Kafka appended it (milliseconds) after the deadline of its members."""
        return appended_ms > self.deadline_ms


class FrameError(ValueError):
    """A record of the submissions topic that is not a frame of a version known here."""


class _VersionedFrame(msgspec.Struct):
    version: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Frame)
_version_decoder = msgspec.json.Decoder(_VersionedFrame)


def encode_submission(submission: Submission) -> bytes:
    """Encode a submission once, as `encode_frame_parts` takes it."""
    return _encoder.encode(submission)


def encode_frame(deadline_ms: int, submissions: Iterable[Submission]) -> bytes:
    """Encode a frame."""
    return encode_frame_parts(deadline_ms, map(encode_submission, submissions))


def encode_frame_parts(deadline_ms: int, payloads: Iterable[bytes]) -> bytes:
    """Encode a frame of submissions that are encoded already, one or more (with commas) a piece."""
    return b'{"version":%d,"answer_by":%d,"submissions":[%b]}' % (
        FRAME_VERSION,
        deadline_ms,
        b",".join(payloads),
    )


def decode_frame(value: bytes | None) -> Frame:
    """Decode a record's value.

    Raises:
        FrameError: it is no frame, or one of a version that this code does not know.
    """
    if value is None:
        raise FrameError("the record has no value")
    try:
        frame = _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        version = _version_of(value)
        if version is not None and not is_readable(version):
            raise FrameError(f"frame version {version} is not known here") from error
        raise FrameError(f"not a frame: {error}") from error
    if not is_readable(frame.version):
        raise FrameError(f"frame version {frame.version} is not known here")
    return frame


def is_readable(version: int) -> bool:
    """Tell whether frames of a version are known here."""
    return 1 <= version <= FRAME_VERSION


def _version_of(value: bytes) -> int | None:
    try:
        return _version_decoder.decode(value).version
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def entity_key(kind: str, id: str) -> bytes:
    """Key of an entity's row and of its registry record."""
    return f"{kind}:{id}".encode()


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of an entity: CRC-32 of its key, so that every gateway chooses the same one."""
    return zlib.crc32(key) % partitions
