"""Submission bodies: what agents may send, derived from the declaration of their kind."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from contract.kinds import MAX_METRIC_VALUE, EntityKind, Label, Metric, is_text
from gateway.decoding import BodyError, JsonDecoder

MAX_AHEAD = 300
"""Seconds that an agent's timestamp may be ahead of our clock."""
MAX_IGNORED_NAMES = 20
MAX_IGNORED_LENGTH = 64
"""How many unknown metric names an answer gives back, and how many characters of each."""

Number = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0, le=float(MAX_METRIC_VALUE))]
Timestamp = Annotated[
    Number,
    Meta(description="When the sample was taken, in seconds since the epoch; default: now."),
]
Text = Annotated[str, Meta(min_length=1, max_length=255)]


class Body(NamedTuple):
    """A submission as its agent meant it.

    `labels` are those that the body sets. `ignored` names unknown metrics, not necessarily all of
    the `ignored_count`.
    """

    metrics: dict[str, int | float]
    labels: dict[str, str]
    timestamp: float | None
    ignored: list[str]
    ignored_count: int


class Received(msgspec.Struct):
    """The answer to a submission that Kafka has."""

    status: str
    receipt: str
    ignored: list[str] | UnsetType = UNSET


class _Names(msgspec.Struct):
    metrics: dict[str, Raw]


class _Declared(msgspec.Struct):
    """What every generated body struct has, for the type checker."""

    metrics: Any
    timestamp: Timestamp | UnsetType = UNSET


class BodyDecoder:
    """Decodes and validates the submissions of one kind of entity."""

    def __init__(self, kind: EntityKind) -> None:
        self._convert = [(metric.field, _converter(metric)) for metric in kind.metrics]
        self._known = {metric.field for metric in kind.metrics}
        self._submitted = [label for label in kind.labels if label.submitted]
        self.struct = declare(kind)
        self._decoder = JsonDecoder(self.struct)
        self._strict = JsonDecoder(declare(kind, forbid_unknown=True))
        self._names = JsonDecoder(_Names)

    def decode(self, body: bytes, now: float) -> Body:
        """Decode a body; `now` is in seconds since the epoch.

        Raises:
            BodyError: with the field that is at fault.
        """
        ignored: list[str] = []
        try:
            declared = self._strict.decode(body)
        except BodyError:
            declared = self._decoder.decode(body)
            ignored = sorted(self._names.decode(body).metrics.keys() - self._known)
        return Body(
            self._metrics(declared),
            self._labels(declared),
            _timestamp(declared, now),
            [name[:MAX_IGNORED_LENGTH] for name in ignored[:MAX_IGNORED_NAMES]],
            len(ignored),
        )

    def _metrics(self, declared: _Declared) -> dict[str, int | float]:
        metrics: dict[str, int | float] = {}
        for field, convert in self._convert:
            value = getattr(declared.metrics, field)
            if value is not UNSET:
                metrics[field] = convert(value)
        return metrics

    def _labels(self, declared: _Declared) -> dict[str, str]:
        labels: dict[str, str] = {}
        for label in self._submitted:
            value = getattr(declared, label.field)
            if value is UNSET:
                continue
            if label.submitted == "boolean":
                labels[label.name] = "true" if value else "false"
            elif is_text(value):
                labels[label.name] = value
            else:
                raise BodyError(label.field, "has a control character")
        return labels


def declare(kind: EntityKind, *, forbid_unknown: bool = False) -> type[_Declared]:
    """Make the struct of a kind's bodies; `forbid_unknown` refuses unknown metric names."""
    title = kind.name.capitalize()
    metrics = msgspec.defstruct(
        f"{title}Metrics",
        [(metric.field, _metric_type(metric) | UnsetType, UNSET) for metric in kind.metrics],
        forbid_unknown_fields=forbid_unknown,
    )
    submitted = [
        (label.field, _label_type(label) | UnsetType, UNSET)
        for label in kind.labels
        if label.submitted
    ]
    declared = msgspec.defstruct(
        f"{title}Submission",
        [("metrics", metrics), *submitted, ("timestamp", Timestamp | UnsetType, UNSET)],
    )
    return cast(type[_Declared], declared)


def _metric_type(metric: Metric) -> Any:
    return Annotated[Number, Meta(description=metric.help)]


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


def _timestamp(declared: _Declared, now: float) -> float | None:
    timestamp = declared.timestamp
    if timestamp is UNSET:
        return None
    if timestamp > now + MAX_AHEAD:
        raise BodyError(
            "timestamp", "is more than 5 minutes ahead (it is in seconds since the epoch)"
        )
    return cast(float, timestamp) + 0.0
