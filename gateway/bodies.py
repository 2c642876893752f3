"""Submission bodies: what agents may send, derived from the declaration of their kind."""

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from contract.kinds import (
    MAX_METRIC_VALUE,
    TEXT_PATTERN,
    EntityKind,
    Label,
    Metric,
    character_fault,
)
from gateway.decoding import BODY, BodyError, JsonDecoder

MAX_AHEAD = 300
"""Seconds that an agent's timestamp may be ahead of our clock."""
MAX_SUBMISSION_BYTES = 65_536
"""Size of one submission, whether it comes by itself, in a batch or in a backlog."""
MAX_NAMES = 1_000
"""Names in the objects of a submission, at any depth, known or not."""
MAX_IGNORED_NAMES = 20
MAX_IGNORED_LENGTH = 64
"""How many unknown metric names an answer gives back, and how many characters of each."""
MAX_INT = 2**63 - 1
"""Largest integer that msgspec compares with by itself."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
"""A string. One that never ends reaches the end of the body: what matches is never read again."""

T = TypeVar("T")

Number = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0, le=float(MAX_METRIC_VALUE))]
Timestamp = Annotated[
    Number,
    Meta(description="When the sample was taken, in seconds since the epoch; default: now."),
]
Text = Annotated[
    str, Meta(min_length=1, max_length=255, extra_json_schema={"pattern": TEXT_PATTERN})
]


class Body(NamedTuple):
    """A submission as its agent meant it.

    `metrics` is a mapping or a struct that encodes as one. `labels` are those that the body sets.
    `ignored` names unknown metrics, not necessarily all of the `ignored_count`.
    """

    metrics: Any
    labels: dict[str, str]
    timestamp: float | None
    ignored: Sequence[str] = ()
    ignored_count: int = 0


class Received(msgspec.Struct):
    """The answer to a submission that Kafka has."""

    status: str
    receipt: Annotated[str, Meta(description="Of the submission; of several, of the last.")]
    receipts: (
        Annotated[list[str], Meta(description="With `samples`: one for each, in their order.")]
        | UnsetType
    ) = UNSET
    ignored: list[str] | UnsetType = UNSET


class _Names(msgspec.Struct):
    metrics: dict[str, Raw]


class _Declared(msgspec.Struct):
    """What every generated body struct has, for the type checker."""

    metrics: Any
    timestamp: Timestamp | UnsetType = UNSET


class Plain(Protocol):
    """A body that is as it must be by its declared types alone (see declare_plain)."""

    metrics: Any
    timestamp: float | UnsetType


class BodyDecoder:
    """Decodes and validates the submissions of one kind of entity."""

    def __init__(self, kind: EntityKind) -> None:
        self._convert = [(metric.field, _converter(metric)) for metric in kind.metrics]
        self._known = {metric.field for metric in kind.metrics}
        self._submitted = [label for label in kind.labels if label.submitted]
        self._plain = msgspec.json.Decoder(declare_plain(kind))
        self._decoder = JsonDecoder(declare(kind))
        self._names = JsonDecoder(_Names)

    def read(self, body: bytes, now: float) -> "Body | Plain":
        """Decode a body, the quick way if it is plain; `now` is in seconds since the epoch.

        Raises:
            BodyError: with the field that is at fault.
        """
        require_size(body)
        plain = plainly(self._plain.decode, body)
        return self.decode(body, now) if plain is None else plain

    def decode(self, body: bytes, now: float) -> Body:
        """Decode any body, field by field; `now` is in seconds since the epoch.

        Raises:
            BodyError: with the field that is at fault.
        """
        if len(body) > MAX_NAMES:  # in a smaller one there is no room for as many names
            require_size(body)
            _require_few_names(body)
        declared = self._decoder.decode(body)
        names = self._names.decode(body).metrics
        ignored_count = len(names.keys() - self._known)
        unknown = (name[:MAX_IGNORED_LENGTH] for name in names if name not in self._known)
        return Body(
            self._metrics(declared),
            labels_of(self._submitted, declared),
            timestamp_of(declared, now),
            sorted(itertools.islice(unknown, MAX_IGNORED_NAMES)) if ignored_count else [],
            ignored_count,
        )

    def _metrics(self, declared: _Declared) -> dict[str, int | float]:
        metrics: dict[str, int | float] = {}
        for field, convert in self._convert:
            value = getattr(declared.metrics, field)
            if value is not UNSET:
                metrics[field] = convert(value)
        return metrics


def labels_of(submitted: Sequence[Label], declared: Any) -> dict[str, str]:
    """Return the labels that a body sets.

    Raises:
        BodyError: one has a character that is refused.
    """
    labels: dict[str, str] = {}
    for label in submitted:
        value = getattr(declared, label.field)
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


def plainly(decode: Callable[[bytes], T], body: bytes) -> T | None:
    """Decode what needs no conversion, and None where somebody must look closer."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look at the text of what it skips
        return decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def declare(
    kind: EntityKind,
    name: str = "Submission",
    fields: Sequence[tuple[str, Any]] = (),
    *,
    timestamp_required: bool = False,
    **options: Any,
) -> type[_Declared]:
    """Make the struct of a kind's bodies; `fields` come before its own."""
    timestamp = ("timestamp", Timestamp | UnsetType, UNSET)
    declared = msgspec.defstruct(
        f"{kind.name.capitalize()}{name}",
        [
            *fields,
            ("metrics", _declare_metrics(kind)),
            *label_fields(kind),
            ("timestamp", Timestamp) if timestamp_required else timestamp,
        ],
        kw_only=True,
        **options,
    )
    return cast(type[_Declared], declared)


@functools.cache
def _declare_metrics(kind: EntityKind) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        f"{kind.name.capitalize()}Metrics",
        [(metric.field, _metric_type(metric) | UnsetType, UNSET) for metric in kind.metrics],
    )


def declare_plain(
    kind: EntityKind, fields: Sequence[tuple[str, Any]] = (), **options: Any
) -> type[Plain]:
    """Make the struct of bodies that need no conversion; `fields` come before its own.

    Integers are integers and below 2^63, floats are floats, and all names are known.
    """
    metrics = msgspec.defstruct(
        f"Plain{kind.name.capitalize()}Metrics",
        [(metric.field, _plain_type(metric) | UnsetType, UNSET) for metric in kind.metrics],
        forbid_unknown_fields=True,
        gc=False,
    )
    declared = msgspec.defstruct(
        f"Plain{kind.name.capitalize()}Submission",
        [
            *fields,
            ("metrics", metrics),
            *label_fields(kind),
            ("timestamp", Annotated[float, Meta(ge=0)] | UnsetType, UNSET),
        ],
        gc=False,
        **options,
    )
    return cast(type[Plain], declared)


def label_fields(kind: EntityKind) -> list[tuple[str, Any, Any]]:
    """Fields, for a struct, of the labels that an agent may send."""
    return [
        (label.field, _label_type(label) | UnsetType, UNSET)
        for label in kind.labels
        if label.submitted
    ]


def _metric_type(metric: Metric) -> Any:
    return Annotated[Number, Meta(description=metric.help)]


def _plain_type(metric: Metric) -> Any:
    if metric.type == "integer":
        return Annotated[int, Meta(ge=0, le=MAX_INT)]
    return Annotated[float, Meta(ge=0, le=float(MAX_METRIC_VALUE))]


def _label_type(label: Label) -> Any:
    return bool if label.submitted == "boolean" else Text


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


def timestamp_of(declared: Any, now: float) -> float | None:
    timestamp = declared.timestamp
    if timestamp is UNSET:
        return None
    if timestamp > now + MAX_AHEAD:
        raise BodyError(
            "timestamp", "is more than 5 minutes ahead (it is in seconds since the epoch)"
        )
    return cast(float, timestamp) + 0.0
