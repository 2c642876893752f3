"""Rows of the entity-state topic: one per entity, and one ledger per source partition."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from contract.history import (
    MAX_EPOCHS,
    MAX_HISTORIES,
    NOT_A_RECORD,
    History,
    LeaderEpoch,
    SourceMark,
    UncountedRange,
    add_uncounted,
)
from contract.position import NO_POSITION, Position

ROW_VERSION = 1
"""What is written here. Read is every version up to it: a new one must take in those before it."""
SHIFTED_LEDGER_VERSION = ROW_VERSION + 1
"""Version of a ledger whose offsets are not Kafka's own. Programs that know only the version before
it would look for its records at wrong offsets, so they must not read it. All other ledgers are of
ROW_VERSION, which those programs read, without the fields that they do not know."""
LEDGER_PREFIX = b"ledger:"
POSITION_HEADER = "position"
"""Header of a tombstone: the position that the removal happened at, as `offset:index`."""


class EntityRow(msgspec.Struct, omit_defaults=True, gc=False):
    """The newest known state of one entity.

    `offset` and `index` are the position of what it holds, `incarnation` that of the registration.
    `last_check_in` is in seconds since the epoch; `last_appended_ms`, the append time of the newest
    submission that was applied, in milliseconds. A `removed` row has no series: it stands until
    retention ends, so that a late submission cannot bring the entity back.
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


Count = Annotated[int, Meta(ge=0)]


class LedgerRow(msgspec.Struct):
    """A checkpoint with counters: what became of a source partition's submissions up to `offset`.

    read = applied + stale + late + dead_lettered, always; `lost` counts records that Kafka
    dropped before they were read. `offset` is logical (contract.history) and itself included.
    `mark` identifies the last offset that was counted or skipped, None where an older version did;
    `newest` is the newest append time of all that were. `histories` are the newest after the first
    one, `parted` is how many there were. `epochs` are the newest leader epochs of counted records,
    `uncounted` the offsets that it covers without having counted their records; an older version
    wrote none.
    """

    version: int
    offset: int
    read: Count = 0
    applied: Count = 0
    stale: Count = 0
    late: Count = 0
    dead_lettered: Count = 0
    lost: Count = 0
    mark: SourceMark | None = None
    newest: int = 0
    histories: tuple[History, ...] = ()
    parted: Count = 0
    epochs: tuple[LeaderEpoch, ...] = ()
    uncounted: tuple[UncountedRange, ...] = ()

    @property
    def balances(self) -> bool:
        return self.read == self.applied + self.stale + self.late + self.dead_lettered

    @property
    def shift(self) -> int:
        """What is added to Kafka's offsets now."""
        return self.histories[-1].shift if self.histories else 0

    @property
    def next_offset(self) -> int:
        """Kafka's offset of the next record to count."""
        return self.offset + 1 - self.shift

    def count_record(self, logical: int, mark: SourceMark | None, appended: int) -> None:
        """Go on to a record: its logical offset, what identifies it, its append time (ms)."""
        if mark is not None:
            self._count_in_epoch(mark.epoch, appended)
        self.offset = logical
        self.mark = mark
        self.newest = max(self.newest, appended)
        if self.histories:
            history = self.histories[-1]
            if history.appended is None or appended < history.appended:
                begun = msgspec.structs.replace(history, appended=appended)
                self.histories = (*self.histories[:-1], begun)

    def _count_in_epoch(self, epoch: int, appended: int) -> None:
        current = self.epochs[-1] if self.epochs else None
        first_of_history = self.histories[-1].first if self.histories else 0
        if current is None or current.epoch != epoch or current.first < first_of_history:
            begun = LeaderEpoch(epoch, self.offset + 1, self.shift, appended, self.newest)
            self.epochs = (*self.epochs, begun)[-MAX_EPOCHS:]
        elif appended < current.appended:
            begun = msgspec.structs.replace(current, appended=appended)
            self.epochs = (*self.epochs[:-1], begun)

    def skip_to(self, start: int, lost: int, epoch: int, topic: str) -> None:
        """Let Kafka's offset `start` be the next one: nothing is left to read before it.

        `lost` records before it were deleted unread. `epoch` is that of the partition's leader.
        """
        if lost:
            first = self.offset + 1
            self.uncounted = add_uncounted(
                self.uncounted, UncountedRange(first, first + lost, lost)
            )
        self.offset = start - 1 + self.shift
        self.lost += lost
        self.mark = SourceMark(start - 1, epoch, NOT_A_RECORD, topic)

    def cover_uncounted(self, offset: int) -> None:
        """Go on to a logical offset that rows are of: whether all before it were applied is not
        known, as a worker was killed after it had written rows, and before their ledger."""
        if offset > self.offset:
            begun = UncountedRange(self.offset + 1, offset + 1, lost=0)
            self.uncounted = add_uncounted(self.uncounted, begun)
            self.offset = offset

    def begin_history(self, start: int, epoch: int, topic: str) -> None:
        """Let the record at Kafka's offset `start` be the next one, in a history of its own.

        A history of which nothing was counted is replaced.
        """
        first = self.offset + 1
        kept = [each for each in self.histories if each.first < first]
        begun = History(first, first - start, epoch, topic, newest=self.newest)
        self.histories = (*kept, begun)[-MAX_HISTORIES:]
        self.parted += 1
        self.mark = None


def empty_ledger() -> LedgerRow:
    """Ledger of a partition of which nothing was read yet."""
    return LedgerRow(version=ROW_VERSION, offset=NO_POSITION.offset)


class RowError(ValueError):
    """A record of the entity-state topic that this code cannot read."""


class RowVersionError(RowError):
    """It is of a version that is not known here: whoever wrote it can read it."""


class _VersionedRow(msgspec.Struct):
    version: int


class _Offset(msgspec.Struct):
    offset: int


class _RowPosition(msgspec.Struct):
    offset: int
    index: int


_Row = TypeVar("_Row", EntityRow, LedgerRow)

_encoder = msgspec.json.Encoder()
_entity_decoder = msgspec.json.Decoder(EntityRow)
_version_decoder = msgspec.json.Decoder(_VersionedRow)
_offset_decoder = msgspec.json.Decoder(_Offset)
_position_decoder = msgspec.json.Decoder(_RowPosition)
_ledger_decoder = msgspec.json.Decoder(LedgerRow)


def encode_row(row: EntityRow | LedgerRow) -> bytes:
    return _encoder.encode(row)


def ledger_version(row: LedgerRow) -> int:
    """The version that a ledger is written in: the oldest whose readers understand it."""
    return SHIFTED_LEDGER_VERSION if row.histories else ROW_VERSION


def ledger_key(partition: int) -> bytes:
    return LEDGER_PREFIX + str(partition).encode()


def is_ledger_key(key: bytes) -> bool:
    return key.startswith(LEDGER_PREFIX)


def decode_entity_row(value: bytes) -> EntityRow:
    """Decode an entity's row.

    Raises:
        RowVersionError: it is one of a version that this code does not know.
        RowError: it is no row.
    """
    return _decode(_entity_decoder, value)


def decode_ledger_row(value: bytes) -> LedgerRow:
    """Decode a partition's ledger row.

    Raises:
        RowVersionError: it is one of a version that this code does not know.
        RowError: it is no ledger row.
    """
    return _decode(_ledger_decoder, value, SHIFTED_LEDGER_VERSION)


def decode_row_position(value: bytes) -> Position:
    """Read only the position of an entity's row, of whatever version.

    Raises:
        RowError: it has none.
    """
    try:
        held = _position_decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RowError(f"not a row: {error}") from error
    return Position(held.offset, held.index)


def _decode(decoder: msgspec.json.Decoder[_Row], value: bytes, newest: int = ROW_VERSION) -> _Row:
    try:
        row = decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise decode_error(value, error, newest) from error
    if not is_readable(row.version, newest):
        raise unknown_version_error(row.version)
    return row


def decode_error(value: bytes, error: Exception, newest: int = ROW_VERSION) -> RowError:
    """Say what is wrong with a row that could not be decoded."""
    try:
        version = _version_decoder.decode(value).version
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        version = ROW_VERSION
    known = is_readable(version, newest)
    return RowError(f"not a row: {error}") if known else unknown_version_error(version)


def is_readable(version: int, newest: int = ROW_VERSION) -> bool:
    """Tell whether rows of a version are known here, up to the `newest`."""
    return 1 <= version <= newest


def unknown_version_error(version: int) -> RowVersionError:
    return RowVersionError(f"row version {version} is not known here")


def decode_ledger_offset(value: bytes) -> int | None:
    """Read only the offset of a ledger row, of whatever version; None if it has none."""
    try:
        return _offset_decoder.decode(value).offset
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def encode_position(position: Position) -> bytes:
    """Encode a tombstone's position header."""
    return f"{position.offset}:{position.index}".encode()


def decode_position(header: bytes) -> Position:
    """Decode a tombstone's position header.

    Raises:
        RowError: it is none.
    """
    try:
        offset, index = header.decode("ascii").split(":")
        return Position(int(offset), int(index))
    except ValueError as error:
        raise RowError(f"not a position: {header!r}") from error
