"""Totals: rows of entity-state that add up what a group of entities has counted.

Each partition has one for each group, changed in the same record batch as the rows whose growth it
adds. Its version is newer than any that programs without totals support, so they treat it as an
unreadable row and leave it unchanged.
"""

import msgspec

from contract.decoding import DECODE_ERRORS
from contract.kinds import OTHER_GROUP, EntityKind
from contract.position import Position
from contract.row import RowError, RowVersionError

TOTAL_VERSION = FIRST_VERSION = 4
"""Above every row and ledger version, so older programs reject totals. FIRST_VERSION to
TOTAL_VERSION are read."""
TOTAL_PREFIX = b"total:"

Group = tuple[str, ...]
"""Values of a kind's `group_labels`."""


class TotalRow(msgspec.Struct):
    """What the entities of a group in one partition have counted since `since`.

    `offset` and `index` are the position of the last submission that was added; `since` is the
    append time, in milliseconds, of the first. `values` are by field. They only grow.
    """

    version: int
    offset: int
    index: int
    kind: str
    group: Group
    since: int
    values: dict[str, int | float] = {}

    @property
    def position(self) -> Position:
        return Position(self.offset, self.index)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TotalRow)


def total_key(partition: int, kind: str, group: Group) -> bytes:
    return total_prefix(partition, kind) + _encoder.encode(group)


def total_prefix(partition: int, kind: str) -> bytes:
    """Return the prefix of the keys of a partition's totals of a kind."""
    return TOTAL_PREFIX + f"{partition}:{kind}:".encode()


def is_total_key(key: bytes) -> bool:
    return key.startswith(TOTAL_PREFIX)


def encode_total(row: TotalRow) -> bytes:
    return _encoder.encode(row)


def decode_total(value: bytes) -> TotalRow:
    """Decode a total.

    Raises:
        RowVersionError: the version is not supported.
        RowError: the value is not a total.
    """
    try:
        row = _decoder.decode(value)
    except DECODE_ERRORS as error:
        raise RowError(f"not a total: {error}") from error
    if not FIRST_VERSION <= row.version <= TOTAL_VERSION:
        raise RowVersionError(f"total version {row.version} is not supported")
    return row


def other_group(kind: EntityKind) -> Group:
    """Return the group of all entities beyond a kind's `max_groups`."""
    return (OTHER_GROUP,) * len(kind.group_labels)
