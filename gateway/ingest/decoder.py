"""Decodes and validates submission bodies, as declared for each kind."""

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
from gateway.body.json import BODY, BodyError, JsonDecoder, ignored_names
from gateway.ingest.schema import CanonicalBody, LenientBody, build_canonical_struct, build_struct

T = TypeVar("T")


MAX_CLOCK_SKEW_SECONDS = 300
"""Seconds by which an agent's timestamp may be ahead of the cluster time."""
MAX_SUBMISSION_BYTES = 65_536
"""Maximum bytes of one submission: alone, in a batch, or in a backlog."""
MAX_NAMES = 1_000
"""Maximum number of names in the objects of a submission, at any depth, known or unknown."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
"""A string, or an unterminated string up to the end of the body. Possessive quantifiers keep it
linear."""


class ParsedBody(NamedTuple):
    """A validated submission.

    `metrics` is a mapping, or a struct that encodes as one. `labels` contains the labels that the
    body sets. `ignored` lists unknown metrics, at most MAX_IGNORED_NAMES of the `ignored_count`.
    """

    metrics: Any
    labels: dict[str, str]
    timestamp: float | None
    ignored: Sequence[str] = ()
    ignored_count: int = 0


class SubmissionResponse(msgspec.Struct):
    """The response to a submission that Kafka has confirmed."""

    status: str
    receipt: Annotated[str, Meta(description="With `samples`: of the last one.")]
    receipts: (
        Annotated[list[str], Meta(description="With `samples`: one for each, in order.")]
        | UnsetType
    ) = UNSET
    ignored: list[str] | UnsetType = UNSET


class _MetricNames(msgspec.Struct):
    metrics: dict[str, Raw]


class BodyDecoder:
    """Decodes and validates the submissions of one kind."""

    def __init__(self, kind: EntityKind) -> None:
        self._convert = [(metric.field, _converter(metric)) for metric in kind.metrics]
        self._metric_fields = {metric.field for metric in kind.metrics}
        self._submitted_labels = [label for label in kind.labels if label.submitted]
        self._fast_decoder = msgspec.json.Decoder(build_canonical_struct(kind))
        self._decoder = JsonDecoder(build_struct(kind))
        self._names = JsonDecoder(_MetricNames)

    def decode(self, body: bytes, now: float) -> "ParsedBody | CanonicalBody":
        """Decode a body, in one call if it is canonical; `now` is in seconds since the epoch.

        Raises:
            BodyError: a field is not valid.
        """
        require_size(body)
        plain = try_fast_decode(self._fast_decoder.decode, body)
        return self.decode_field_by_field(body, now) if plain is None else plain

    def decode_field_by_field(self, body: bytes, now: float) -> ParsedBody:
        """Decode a body field by field; `now` is in seconds since the epoch.

        Raises:
            BodyError: a field is not valid.
        """
        if len(body) > MAX_NAMES:  # a smaller body cannot contain that many names
            require_size(body)
            _require_few_names(body)
        declared = self._decoder.decode(body)
        names = self._names.decode(body).metrics
        ignored_count = len(names.keys() - self._metric_fields)
        return ParsedBody(
            self._metrics(declared),
            submitted_labels(self._submitted_labels, declared),
            validated_timestamp(declared, now),
            ignored_names(names, self._metric_fields) if ignored_count else [],
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
        BodyError: a value contains a forbidden character.
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
        BodyError: it is larger than MAX_SUBMISSION_BYTES.
    """
    if len(body) > MAX_SUBMISSION_BYTES:
        raise BodyError(BODY, f"is larger than {MAX_SUBMISSION_BYTES} bytes")


def _require_few_names(body: bytes) -> None:
    """Refuse a submission with many names before an object is created for each.

    Raises:
        BodyError: it contains more than MAX_NAMES names.
    """
    # Each name is followed by a colon. Strings are removed only if the simple count is too high.
    if body.count(b":") > MAX_NAMES and _STRING.sub(b"", body).count(b":") > MAX_NAMES:
        raise BodyError(BODY, f"contains more than {MAX_NAMES:,} names")


def try_fast_decode(decode: Callable[[bytes], T], body: bytes) -> T | None:
    """Decode a canonical body; return None if the body needs field-by-field decoding."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not validate the text of skipped values
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
            raise BodyError(field, "is greater than 2^63")
        return whole

    def to_float(value: int | float) -> float:
        if value > MAX_METRIC_VALUE:
            raise BodyError(field, "is greater than 2^63")
        return value + 0.0  # converts -0.0 to 0.0

    return to_integer if metric.type == "integer" else to_float


def validated_timestamp(body: Any, now: float) -> float | None:
    timestamp = body.timestamp
    if timestamp is UNSET:
        return None
    if timestamp > now + MAX_CLOCK_SKEW_SECONDS:
        raise BodyError(
            "timestamp", "is more than 5 minutes in the future (unit: seconds since the epoch)"
        )
    return cast(float, timestamp) + 0.0
