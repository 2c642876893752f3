"""The ledger: the row of entity-state that counts a source partition's submissions."""

from typing import Annotated

import msgspec
from msgspec import Meta

from contract.decoding import DECODE_ERRORS
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
from contract.row import ROW_VERSION, decode_row

SHIFTED_LEDGER_VERSION = ROW_VERSION + 1
"""Version of a ledger whose logical offsets differ from Kafka's. Programs that support only
ROW_VERSION would read from wrong offsets, so they must reject it. All other ledgers have
ROW_VERSION; older programs read them and ignore unknown fields."""
CUT_LEDGER_VERSION = ROW_VERSION + 2
"""Version of a ledger that counts a part of a record. Programs that do not support it would count
that part twice, so they must reject it. Its written offset is that of this record, so that such
programs regard it as newer than the previous ledger and stop."""
LEDGER_PREFIX = b"ledger:"

Count = Annotated[int, Meta(ge=0)]


class RecordCut(msgspec.Struct, frozen=True, gc=False):
    """The counted part of the record after a ledger's offset: its first `count` submissions.

    `epoch` and `appended` identify the record: its leader epoch, -1 if unknown, and its append time
    in milliseconds.
    """

    count: Count
    epoch: int
    appended: int


class LedgerRow(msgspec.Struct):
    """A checkpoint with counters: the outcomes of a source partition's submissions up to `offset`.

    read = applied + stale + late + dead_lettered, always. `lost` counts records that Kafka deleted
    before they were read. `offset` is logical (contract.history) and inclusive. `mark` identifies
    the last offset that was counted or skipped, None if an older version wrote it. `newest` is the
    newest append time of all counted records. `histories` are the newest histories except the
    first, `parted` is their total number. `epochs` are the newest leader epochs of counted records.
    `uncounted` are the offsets that the ledger covers without having counted their records; older
    versions did not write them. The counters include those of `cut`, a counted part of the next
    record, whose rows exceed a Kafka record batch.
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
    cut: RecordCut | None = None

    @property
    def progress(self) -> Position:
        """Position of the last submission that may be counted; of two ledgers, the newer has the
        greater."""
        return Position(self.offset, self.cut.count if self.cut is not None else 0)

    @property
    def balances(self) -> bool:
        return self.read == self.applied + self.stale + self.late + self.dead_lettered

    @property
    def shift(self) -> int:
        """Logical offset minus Kafka's offset in the current history."""
        return self.histories[-1].shift if self.histories else 0

    @property
    def next_offset(self) -> int:
        """Kafka's offset of the next record to count."""
        return self.offset + 1 - self.shift

    def count_record(self, logical: int, mark: SourceMark | None, appended: int) -> None:
        """Advance to a record. `logical` is its logical offset, `appended` its append time in
        milliseconds."""
        if mark is not None:
            self._count_in_epoch(mark.epoch, appended)
        self.offset = logical
        self.cut = None
        self.mark = mark
        self.newest = max(self.newest, appended)
        if self.histories:
            history = self.histories[-1]
            if history.appended is None or appended < history.appended:
                started = msgspec.structs.replace(history, appended=appended)
                self.histories = (*self.histories[:-1], started)

    def _count_in_epoch(self, epoch: int, appended: int) -> None:
        current = self.epochs[-1] if self.epochs else None
        first_of_history = self.histories[-1].first if self.histories else 0
        if current is None or current.epoch != epoch or current.first < first_of_history:
            started = LeaderEpoch(epoch, self.offset + 1, self.shift, appended, self.newest)
            self.epochs = (*self.epochs, started)[-MAX_EPOCHS:]
        elif appended < current.appended:
            started = msgspec.structs.replace(current, appended=appended)
            self.epochs = (*self.epochs[:-1], started)

    def skip_to(self, start: int, lost: int, epoch: int, topic: str) -> None:
        """Set the next record to Kafka's offset `start`, because nothing before it can be read.

        `lost` records before it were deleted unread. `epoch` is that of the partition's leader.
        """
        offset = start - 1 + self.shift
        if lost:
            first = self.offset + 1
            self.uncounted = add_uncounted(
                self.uncounted, UncountedRange(first, first + lost, lost)
            )
        if offset > self.offset:
            self.cut = None
        self.offset = offset
        self.lost += lost
        self.mark = SourceMark(start - 1, epoch, NOT_A_RECORD, topic)

    def cover_uncounted(self, offset: int) -> None:
        """Cover a logical offset that rows have, without counting its records.

        A worker that was killed between its rows and their ledger leaves such rows; which earlier
        records were applied is unknown.
        """
        if offset > self.offset:
            started = UncountedRange(self.offset + 1, offset + 1, lost=0)
            self.uncounted = add_uncounted(self.uncounted, started)
            self.offset = offset
            self.cut = None

    def begin_history(self, start: int, epoch: int, topic: str) -> None:
        """Start a new history at Kafka's offset `start`, the next record to count.

        A previous history without counted records is replaced.
        """
        first = self.offset + 1
        kept = [each for each in self.histories if each.first < first]
        started = History(first, first - start, epoch, topic, newest=self.newest)
        self.histories = (*kept, started)[-MAX_HISTORIES:]
        self.parted += 1
        self.mark = self.cut = None


def empty_ledger() -> LedgerRow:
    """Return the ledger of a partition of which nothing has been read."""
    return LedgerRow(version=ROW_VERSION, offset=NO_POSITION.offset)


class _Offset(msgspec.Struct):
    offset: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LedgerRow)
_offset_decoder = msgspec.json.Decoder(_Offset)


def encode_ledger_row(row: LedgerRow) -> bytes:
    """Encode a ledger in the oldest version whose readers understand it."""
    if row.cut is not None:
        written = msgspec.structs.replace(row, version=CUT_LEDGER_VERSION, offset=row.offset + 1)
        return _encoder.encode(written)
    row.version = SHIFTED_LEDGER_VERSION if row.histories else ROW_VERSION
    return _encoder.encode(row)


def ledger_key(partition: int) -> bytes:
    return LEDGER_PREFIX + str(partition).encode()


def is_ledger_key(key: bytes) -> bool:
    return key.startswith(LEDGER_PREFIX)


def decode_ledger_row(value: bytes) -> LedgerRow:
    """Decode a partition's ledger row.

    Raises:
        RowVersionError: the version is not supported.
        RowError: the value is not a ledger row.
    """
    row = decode_row(_decoder, value, CUT_LEDGER_VERSION)
    if row.cut is not None:
        row.offset -= 1
    return row


def decode_ledger_offset(value: bytes) -> int | None:
    """Decode only the offset of a ledger row, of any version; None if it has none."""
    try:
        return _offset_decoder.decode(value).offset
    except DECODE_ERRORS:
        return None
