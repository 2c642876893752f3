"""Decodes rows into the fields that /metrics needs, in one pass."""

import contextlib
from collections.abc import Iterable
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType, defstruct
from msgspec.structs import astuple

from contract.decoding import DECODE_ERRORS
from contract.kinds import MAX_METRIC_VALUE, EntityKind
from contract.row import decode_error, is_readable, unknown_version_error

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class RenderRow(Protocol):
    """A decoded row; its fields are those of `contract.row.EntityRow`.

    `labels` is the encoded object, because most rows have the labels of their predecessor; see
    `RowDecoder.labels`. `metrics` has a number or UNSET for each metric of the kind, in declaration
    order.
    """

    version: int
    offset: int
    index: int
    incarnation: int
    last_check_in: float
    labels: msgspec.Raw
    metrics: msgspec.Struct
    removed: bool


class RowDecoder:
    """Decodes the rows of one kind."""

    def __init__(self, kind: EntityKind) -> None:
        self._decoder = msgspec.json.Decoder(_row_struct(kind, Int64))
        self._decoder_for_large_integers = msgspec.json.Decoder(_row_struct(kind, int))
        names = sorted(label.name for label in kind.labels)
        self._label_decoder = msgspec.json.Decoder(_struct("Labels", str, "", names))

    def decode(self, value: bytes) -> RenderRow:
        """Decode a row.

        Raises:
            RowVersionError: the version is not supported.
            RowError: the value is not a row.
        """
        try:
            row: RenderRow = self._decoder.decode(value)
        except DECODE_ERRORS as error:
            row = self._decode_large(value, error)
        if not is_readable(row.version):
            raise unknown_version_error(row.version)
        return row

    def labels(self, row: RenderRow) -> msgspec.Struct:
        """Decode the labels of a row: a string for each label of the kind except the id, by name.

        Raises:
            RowError: they are not labels.
        """
        try:
            labels: msgspec.Struct = self._label_decoder.decode(row.labels)
        except DECODE_ERRORS as error:
            raise decode_error(bytes(row.labels), error) from error
        return labels

    def _decode_large(self, value: bytes, error: Exception) -> RenderRow:
        """Decode a row with an integer above int64: gateways also accept 2**63."""
        with contextlib.suppress(*DECODE_ERRORS):
            row: RenderRow = self._decoder_for_large_integers.decode(value)
            numbers = [number for number in astuple(row.metrics) if type(number) is int]
            if all(abs(number) <= MAX_METRIC_VALUE for number in numbers):
                return row
        raise decode_error(value, error) from error


def _row_struct(kind: EntityKind, integer: Any) -> Any:
    fields = [metric.field for metric in kind.metrics]
    metrics = _struct("Metrics", integer | float | UnsetType, UNSET, fields)
    return defstruct(
        "Row",
        [
            ("version", int),
            ("offset", Int64),
            ("index", Int64),
            ("incarnation", Int64, msgspec.field(name="generation")),
            ("last_check_in", float),
            ("labels", msgspec.Raw, msgspec.Raw(b"{}")),
            ("metrics", metrics, msgspec.field(default_factory=metrics)),
            ("removed", bool, False),
        ],
        gc=False,
    )


def _struct(name: str, type: Any, default: Any, fields: Iterable[str]) -> Any:
    return defstruct(name, [(field, type, default) for field in fields], gc=False)
