"""The frame: the value of a record in the submissions topic.

A frame holds submissions of one partition, in order, and `deadline_ms`, the earliest deadline of
its submissions in broker time. The gateway responds 200 only if Kafka appended the frame by then,
and the processor applies no submission of a frame that was appended later. Both compare the same
two numbers, so they agree whatever the local clocks say.
"""

from collections.abc import Iterable

import msgspec

from contract.decoding import DECODE_ERRORS

FRAME_VERSION = 1
"""The version that is written. All versions up to it are read, so a new version must accept the
older ones."""


class Submission(msgspec.Struct, omit_defaults=True, gc=False):
    """One report of one entity or, with `removed`, the entity's removal.

    `labels` replace those of the row. `default_labels` apply where the row has no value.
    `timestamp` comes from the agent, in seconds since the epoch.
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
    """Submissions and their deadline, in milliseconds since the epoch, broker time."""

    version: int
    deadline_ms: int = msgspec.field(name="answer_by")
    submissions: list[Submission]

    def is_late(self, appended_ms: int) -> bool:
        """Return whether Kafka appended the frame after its deadline."""
        return appended_ms > self.deadline_ms


class FrameError(ValueError):
    """A record of the submissions topic that is not a frame of a supported version."""


class _VersionedFrame(msgspec.Struct):
    version: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Frame)
_version_decoder = msgspec.json.Decoder(_VersionedFrame)


def encode_submission(submission: Submission) -> bytes:
    """Encode a submission as `encode_frame_parts` expects it."""
    return _encoder.encode(submission)


def encode_frame(deadline_ms: int, submissions: Iterable[Submission]) -> bytes:
    return encode_frame_parts(deadline_ms, map(encode_submission, submissions))


def encode_frame_parts(deadline_ms: int, payloads: Iterable[bytes]) -> bytes:
    """Encode a frame of encoded submissions; a payload is one, or several joined by commas."""
    return b'{"version":%d,"answer_by":%d,"submissions":[%b]}' % (
        FRAME_VERSION,
        deadline_ms,
        b",".join(payloads),
    )


def decode_frame(value: bytes | None) -> Frame:
    """Decode a record's value.

    Raises:
        FrameError: the value is not a frame, or its version is not supported.
    """
    if value is None:
        raise FrameError("the record has no value")
    try:
        frame = _decoder.decode(value)
    except DECODE_ERRORS as error:
        version = _version_of(value)
        if version is not None and not is_readable(version):
            raise FrameError(f"frame version {version} is not supported") from error
        raise FrameError(f"not a frame: {error}") from error
    if not is_readable(frame.version):
        raise FrameError(f"frame version {frame.version} is not supported")
    return frame


def is_readable(version: int) -> bool:
    """Return whether this code can read frames of a version."""
    return 1 <= version <= FRAME_VERSION


def _version_of(value: bytes) -> int | None:
    try:
        return _version_decoder.decode(value).version
    except DECODE_ERRORS:
        return None
