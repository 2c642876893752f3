"""Rows of the entity-state topic, one per entity; and what all rows have in common."""

from typing import Protocol, TypeVar

import msgspec

from contract.decoding import DECODE_ERRORS
from contract.position import Position

ROW_VERSION = 1
"""The version that is written. All versions up to it are read, so a new version must accept the
older ones."""
POSITION_HEADER = "position"
"""Header of a tombstone: the position of the removal, as `offset:index`."""


class EntityRow(msgspec.Struct, omit_defaults=True, gc=False):
    """The newest known state of one entity.

    `offset` and `index` are the position of the newest submission that was applied, `incarnation`
    that of its registration. `last_check_in` is in seconds since the epoch. `last_appended_ms` is
    the append time of that submission in milliseconds. A `removed` row has no series. It is kept
    until retention ends, so that a late submission cannot recreate the entity.
    """

    version: int
    offset: int
    index: int
    incarnation: int = msgspec.field(name="generation")
    last_appended_ms: int = msgspec.field(name="heard_at")
    last_check_in: float
    labels: dict[str, str] = {}
    metrics: dict[str, int | float] = {}
    removed: bool = False

    @property
    def position(self) -> Position:
        return Position(self.offset, self.index)


class RowError(ValueError):
    """A record of the entity-state topic that cannot be decoded."""


class RowVersionError(RowError):
    """A row of an unsupported version, written by a newer program."""


class _VersionedRow(msgspec.Struct):
    version: int


class _RowPosition(msgspec.Struct):
    offset: int
    index: int


class Versioned(Protocol):
    """A row of any kind."""

    version: int


_Row = TypeVar("_Row", bound=Versioned)

_encoder = msgspec.json.Encoder()
_entity_decoder = msgspec.json.Decoder(EntityRow)
_version_decoder = msgspec.json.Decoder(_VersionedRow)
_position_decoder = msgspec.json.Decoder(_RowPosition)


def encode_row(row: Versioned) -> bytes:
    """Encode a row of any kind with the version that it has."""
    return _encoder.encode(row)


def decode_entity_row(value: bytes) -> EntityRow:
    """Decode an entity's row.

    Raises:
        RowVersionError: the version is not supported.
        RowError: the value is not a row.
    """
    return decode_row(_entity_decoder, value)


def decode_row_position(value: bytes) -> Position:
    """Decode only the position of an entity's row, of any version.

    Raises:
        RowError: the row has no position.
    """
    try:
        row = _position_decoder.decode(value)
    except DECODE_ERRORS as error:
        raise RowError(f"not a row: {error}") from error
    return Position(row.offset, row.index)


def decode_row(
    decoder: msgspec.json.Decoder[_Row], value: bytes, newest: int = ROW_VERSION
) -> _Row:
    """Decode a row of a version up to `newest`.

    Raises:
        RowVersionError: the version is not supported.
        RowError: the value is not such a row.
    """
    try:
        row = decoder.decode(value)
    except DECODE_ERRORS as error:
        raise decode_error(value, error, newest) from error
    if not 1 <= row.version <= newest:  # is_readable, without a call for each row
        raise unknown_version_error(row.version)
    return row


def decode_error(value: bytes, error: Exception, newest: int = ROW_VERSION) -> RowError:
    """Return the error for a row that could not be decoded."""
    try:
        version = _version_decoder.decode(value).version
    except DECODE_ERRORS:
        version = ROW_VERSION
    known = is_readable(version, newest)
    return RowError(f"not a row: {error}") if known else unknown_version_error(version)


def is_readable(version: int, newest: int = ROW_VERSION) -> bool:
    """Return whether this code can read rows of a version, up to `newest`."""
    return 1 <= version <= newest


def unknown_version_error(version: int) -> RowVersionError:
    return RowVersionError(f"row version {version} is not supported")


def encode_position(position: Position) -> bytes:
    """Encode the position header of a tombstone."""
    return f"{position.offset}:{position.index}".encode()


def decode_position(header: bytes) -> Position:
    """Decode the position header of a tombstone.

    Raises:
        RowError: the header is not a position.
    """
    try:
        offset, index = header.decode("ascii").split(":")
        return Position(int(offset), int(index))
    except ValueError as error:
        raise RowError(f"not a position: {header!r}") from error
