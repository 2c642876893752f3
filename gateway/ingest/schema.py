"""The structs of submission bodies, built from the declaration of each kind."""

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contract.kinds import (
    MAX_METRIC_VALUE,
    TEXT_PATTERN,
    EntityKind,
    Label,
    Metric,
)

MAX_INT = 2**63 - 1
"""The largest integer for which msgspec supports a constraint."""

Number = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0, le=float(MAX_METRIC_VALUE))]
Timestamp = Annotated[
    Number,
    Meta(description="Time of the sample in seconds since the epoch; default: now."),
]
Text = Annotated[
    str, Meta(min_length=1, max_length=255, extra_json_schema={"pattern": TEXT_PATTERN})
]


class LenientBody(msgspec.Struct):
    """The common fields of the generated body structs, for the type checker."""

    metrics: Any
    timestamp: Timestamp | UnsetType = UNSET


class CanonicalBody(Protocol):
    """A body whose declared types need no conversion (see build_canonical_struct)."""

    metrics: Any
    timestamp: float | UnsetType
    ignored: tuple[()]
    ignored_count: Literal[0]
    """It contains no unknown metric."""


def build_struct(
    kind: EntityKind,
    name: str = "Submission",
    fields: Sequence[tuple[str, Any]] = (),
    *,
    timestamp_required: bool = False,
    **options: Any,
) -> type[LenientBody]:
    """Build the struct of a kind's bodies; `fields` come before the declared ones."""
    timestamp = ("timestamp", Timestamp | UnsetType, UNSET)
    declared = msgspec.defstruct(
        f"{kind.name.capitalize()}{name}",
        [
            *fields,
            ("metrics", _build_metrics_struct(kind)),
            *label_fields(kind),
            ("timestamp", Timestamp) if timestamp_required else timestamp,
        ],
        kw_only=True,
        **options,
    )
    return cast(type[LenientBody], declared)


@functools.cache
def _build_metrics_struct(kind: EntityKind) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        f"{kind.name.capitalize()}Metrics",
        [(metric.field, _metric_type(metric) | UnsetType, UNSET) for metric in kind.metrics],
    )


def build_canonical_struct(
    kind: EntityKind,
    fields: Sequence[tuple[str, Any]] = (),
    constants: Mapping[str, object] = {},
    **options: Any,
) -> type[CanonicalBody]:
    """Build the struct of canonical bodies; `fields` come before the declared ones, and all bodies
    have the `constants`.

    In a canonical body, integers are integers below 2^63, floats are floats, and all metric names
    are known.
    """
    metrics = msgspec.defstruct(
        f"Plain{kind.name.capitalize()}Metrics",
        [(metric.field, _canonical_type(metric) | UnsetType, UNSET) for metric in kind.metrics],
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
        namespace={"ignored": (), "ignored_count": 0, **constants},
        **options,
    )
    return cast(type[CanonicalBody], declared)


def label_fields(kind: EntityKind) -> list[tuple[str, Any, Any]]:
    """Return the struct fields of the labels that an agent may send."""
    return [
        (label.field, _label_type(label) | UnsetType, UNSET)
        for label in kind.labels
        if label.submitted
    ]


def _metric_type(metric: Metric) -> Any:
    return Annotated[Number, Meta(description=metric.help)]


def _canonical_type(metric: Metric) -> Any:
    if metric.type == "integer":
        return Annotated[int, Meta(ge=0, le=MAX_INT)]
    return Annotated[float, Meta(ge=0, le=float(MAX_METRIC_VALUE))]


def _label_type(label: Label) -> Any:
    return bool if label.submitted == "boolean" else Text
