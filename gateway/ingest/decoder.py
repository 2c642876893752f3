"""Submission bodies: what agents may send, derived from the declaration of their kind."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from contract.kinds import (
    MAX_METRIC_VALUE,
    EntityKind,
    Label,
    Metric,
    character_fault,
)
from gateway.body.json import BODY, BodyError, JsonDecoder
from gateway.ingest.schema import CanonicalBody, LenientBody, build_canonical_struct, build_struct

T = TypeVar("T")


MAX_CLOCK_SKEW_SECONDS = 300
"""Seconds that an agent's timestamp may be ahead of our clock."""
MAX_SUBMISSION_BYTES = 65_536
"""Size of one submission, whether it comes by itself, in a batch or in a backlog."""
MAX_NAMES = 1_000
"""Names in the objects of a submission, at any depth, known or not."""
MAX_IGNORED_NAMES = 20
MAX_IGNORED_LENGTH = 64
"""How many unknown metric names an answer gives back, and how many characters of each."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
"""A string. One that never ends reaches the end of the body: what matches is never read again."""


class ParsedBody(NamedTuple):
    """A submission as its agent meant it.

    `metrics` is a mapping or a struct that encodes as one. `labels` are those that the body sets.
    `ignored` names unknown metrics, not necessarily all of the `ignored_count`.
    """

    metrics: Any
    labels: dict[str, str]
    timestamp: float | None
    ignored: Sequence[str] = ()
    ignored_count: int = 0


class SubmissionResponse(msgspec.Struct):
    """The answer to a submission that Kafka has."""

    status: str
    receipt: Annotated[str, Meta(description="Of the submission; of several, of the last.")]
    receipts: (
        Annotated[list[str], Meta(description="With `samples`: one for each, in their order.")]
        | UnsetType
    ) = UNSET
    ignored: list[str] | UnsetType = UNSET


class _MetricNames(msgspec.Struct):
    metrics: dict[str, Raw]


class BodyDecoder:
    """Decodes and validates the submissions of one kind of entity."""

    def __init__(self, kind: EntityKind) -> None:
        self._convert = [(metric.field, _converter(metric)) for metric in kind.metrics]
        self._metric_fields = {metric.field for metric in kind.metrics}
        self._submitted_labels = [label for label in kind.labels if label.submitted]
        self._fast_decoder = msgspec.json.Decoder(build_canonical_struct(kind))
        self._decoder = JsonDecoder(build_struct(kind))
        self._names = JsonDecoder(_MetricNames)

    def decode(self, body: bytes, now: float) -> "ParsedBody | CanonicalBody":
        """Decode a body, the quick way if it is plain; `now` is in seconds since the epoch.

        Raises:
            BodyError: with the field that is at fault.
        """
        require_size(body)
        plain = try_fast_decode(self._fast_decoder.decode, body)
        return self.decode_field_by_field(body, now) if plain is None else plain

    def decode_field_by_field(self, body: bytes, now: float) -> ParsedBody:
        """Decode any body, field by field; `now` is in seconds since the epoch.

        Raises:
            BodyError: with the field that is at fault.
        """
        if len(body) > MAX_NAMES:  # in a smaller one there is no room for as many names
            require_size(body)
            _require_few_names(body)
        declared = self._decoder.decode(body)
        names = self._names.decode(body).metrics
        ignored_count = len(names.keys() - self._metric_fields)
        unknown = (name[:MAX_IGNORED_LENGTH] for name in names if name not in self._metric_fields)
        return ParsedBody(
            self._metrics(declared),
            submitted_labels(self._submitted_labels, declared),
            validated_timestamp(declared, now),
            sorted(itertools.islice(unknown, MAX_IGNORED_NAMES)) if ignored_count else [],
            ignored_count,
        )

    def _metrics(self, declared: LenientBody) -> dict[str, int | float]:
        metrics: dict[str, int | float] = {}
        for field, convert in self._convert:
            value = getattr(declared.metrics, field)
            if value is not UNSET:
                metrics[field] = convert(value)
        return metrics


def submitted_labels(declared: Sequence[Label], body: Any) -> dict[str, str]:
    """Return the labels that a body sets.

    Raises:
        BodyError: one has a character that is refused.
    """
    labels: dict[str, str] = {}
    for label in declared:
        value = getattr(body, label.field)
        if value is UNSET:
            continue
        if label.submitted == "boolean":
            labels[label.name] = "true" if value else "false"
        elif fault := character_fault(value):
            raise BodyError(label.field, fault)
        else:
            labels[label.name] = value
    return labels


def require_size(body: bytes) -> None:
    """Refuse a submission that would take long to decode.

    Raises:
        BodyError: it has more than MAX_SUBMISSION_BYTES.
    """
    if len(body) > MAX_SUBMISSION_BYTES:
        raise BodyError(BODY, f"is larger than {MAX_SUBMISSION_BYTES} bytes")


def _require_few_names(body: bytes) -> None:
    """Refuse a submission with many names before an object is made of each.

    Raises:
        BodyError: it has more than MAX_NAMES.
    """
    # Behind each name is a colon, and few bodies have as many, even with those in their texts.
    if body.count(b":") > MAX_NAMES and _STRING.sub(b"", body).count(b":") > MAX_NAMES:
        raise BodyError(BODY, f"has more than {MAX_NAMES:,} names")


def try_fast_decode(decode: Callable[[bytes], T], body: bytes) -> T | None:
    """Decode what needs no conversion, and None where somebody must look closer."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look at the text of what it skips
        return decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _converter(metric: Metric) -> Callable[[int | float], int | float]:
    field = f"metrics.{metric.field}"

    def to_integer(value: int | float) -> int:
        whole = int(value)
        if whole != value:
            raise BodyError(field, "must be a whole number")
        if whole > MAX_METRIC_VALUE:
            raise BodyError(field, "is beyond 2^63")
        return whole

    def to_float(value: int | float) -> float:
        if value > MAX_METRIC_VALUE:
            raise BodyError(field, "is beyond 2^63")
        return value + 0.0  # also makes 0.0 of -0.0

    return to_integer if metric.type == "integer" else to_float


def validated_timestamp(body: Any, now: float) -> float | None:
    timestamp = body.timestamp
    if timestamp is UNSET:
        return None
    if timestamp > now + MAX_CLOCK_SKEW_SECONDS:
        raise BodyError(
            "timestamp", "is more than 5 minutes ahead (it is in seconds since the epoch)"
        )
    return cast(float, timestamp) + 0.0
