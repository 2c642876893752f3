"""State of one partition: its rows, its ledger, and how far its changelog is known."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from contract.position import NO_POSITION, Position
from contract.row import (
    POSITION_HEADER,
    LedgerRow,
    RowError,
    decode_ledger_offset,
    decode_ledger_row,
    decode_position,
    decode_row_position,
    empty_ledger,
    ledger_key,
)
from contract.total import is_total_key
from processor.core.anomaly_detector import EntityHistory
from service.kafka.tombstones import uptime

log = structlog.get_logger(__name__)

Headers = Sequence[tuple[str, bytes]]
OffsetRange = tuple[int, int]
"""Offsets [from, to) of the changelog."""
MAX_RECORD_BYTES = 1024 * 1024
"""A row that is larger came in a compressed record, from no worker: none could write it again."""


class ChangelogMark(NamedTuple):
    """Id of the changelog topic, and its partition's leader epoch."""

    topic: str
    epoch: int


class PartitionState:
    """Rows by key (encoded), the ledger row, and the changelog offset expected next."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.ledger_key = ledger_key(partition)
        self.rows: dict[bytes, bytes] = {}
        self.ledger: LedgerRow = empty_ledger()
        self.next_offset = 0
        self.loaded = False
        self.histories: dict[bytes, EntityHistory] = {}
        """What is remembered of entities to notice anomalies; in no topic."""
        self.unreadable = 0
        """Rows that the last sweep could not read."""
        self.ledger_error: str | None = None
        """Why the newest ledger cannot be read. Without it nothing can be counted: nothing is read
        of the partition until there is a newer one that can."""
        self.source_fault: str | None = None
        """Why it is not certain which records of the source are counted. Nothing is read of the
        partition until an operator has decided."""
        self.awaits_source = False
        """Whether Kafka has not said enough yet to compare the ledger with the source. Nothing is
        read of the partition until it has."""
        self.source_topic: str | None = None
        """Id of the submissions topic that the ledger was last compared with."""
        self.source_epoch = -1
        """Leader epoch of the source when that was."""
        self.changelog: ChangelogMark | None = None
        """Which log the state was last loaded from."""
        self.current_at = uptime()
        """When the state last held all of its changelog; of a new one, when reading began."""
        self._ledger_error_offset = -1
        self._tombstones: dict[bytes, Position] = {}
        self._regressed: set[bytes] = set()
        self._total_keys: frozenset[bytes] | None = None

    def apply(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        """Take a record of the changelog, as loading finds it: the newest position wins.

        The last record of a key need not be the newest, if a worker wrote that had lost the
        partition. Compaction will keep the last one, so such keys are remembered.
        """
        if key == self.ledger_key:  # that of another partition is a row that cannot be read
            self._apply_ledger(value)
            return
        if value is not None and len(value) > MAX_RECORD_BYTES:
            log.error("row skipped: it is too large", key=key[:100], size=len(value))
            return
        position = record_position(value, headers)
        if position < self._newest_position(key):
            self._regressed.add(key)
            return
        self._regressed.discard(key)
        if value is None:
            self.rows.pop(key, None)
            self._tombstones[key] = position
        else:
            self.rows[key] = value

    def finish_loading(self, next_offset: int) -> dict[bytes, Position]:
        """Mark as loaded; return the keys whose last record is not the newest, with what is newest.

        A key that is not among the rows was deleted at that position. Without a ledger that can be
        read the state is not loaded, and the next load reads everything again. Keys of a state that
        is not loaded are kept for when it is.
        """
        self.next_offset = max(self.next_offset, next_offset) if self.ledger_error is None else 0
        self.histories.clear()  # another worker may have gone on
        self.forget_total_keys()
        self._update_loaded()
        if self.loaded and not self._regressed:
            self._tombstones.clear()
        return self.stepped_back() if self.loaded else {}

    def stepped_back(self) -> dict[bytes, Position]:
        """What `finish_loading` returns; it stays so until `forget_stepped_back`."""
        return {key: self._newest_position(key) for key in self._regressed}

    def forget_stepped_back(self) -> None:
        """Take note that the newest of every key is its last record now."""
        self._regressed.clear()
        self._tombstones.clear()

    @property
    def total_keys(self) -> frozenset[bytes]:
        """Keys of the totals among the rows (contract.total)."""
        if self._total_keys is None:
            self._total_keys = frozenset(filter(is_total_key, self.rows))
        return self._total_keys

    def forget_total_keys(self) -> None:
        """Take note that there may be others now."""
        self._total_keys = None

    def stop_for_source(self, reason: str) -> None:
        """Read nothing of the partition: see `source_fault`."""
        self.source_fault, self.awaits_source = reason, False
        self._update_loaded()

    def await_source(self) -> None:
        """Read nothing of the partition: see `awaits_source`."""
        self.awaits_source = True
        self._update_loaded()

    def go_on_from_source(self, topic: str, epoch: int) -> None:
        """Take note that the ledger was compared with this topic, led in this epoch."""
        self.source_topic, self.source_epoch = topic, epoch
        if self.is_held:
            self.source_fault, self.awaits_source = None, False
            self._update_loaded()

    def forget_source_epoch(self) -> None:
        """Let the next record, and the next check, compare the ledger with the source anew."""
        self.source_epoch = -1

    @property
    def is_held(self) -> bool:
        """Whether nothing is read of the partition because of its source."""
        return self.source_fault is not None or self.awaits_source

    def _update_loaded(self) -> None:
        self.loaded = self.ledger_error is None and not self.is_held

    def newest_offset(self) -> int:
        """The newest logical offset that the ledger or a row is of.

        Rows are written before their ledger: a worker that was killed in between leaves newer ones.
        """
        rows = (record_position(row, ()).offset for row in self.rows.values())
        return max(self.ledger.offset, max(rows, default=NO_POSITION.offset))

    def is_doubtful(self, ledger: LedgerRow, source_offset: int, epoch: int | None) -> bool:
        """Tell whether the ledger must be compared with the source before a record is folded.

        So it is for a record at or below the ledger, and for one of a leader epoch that did not
        exist at the last comparison, or that came before that of the last record.
        """
        if source_offset < ledger.next_offset:
            return True
        if epoch is None:
            return False
        return epoch > self.source_epoch or (ledger.mark is not None and epoch < ledger.mark.epoch)

    def adopt(self, kept: "PartitionState", next_offset: int) -> dict[bytes, Position]:
        """Finish loading from a changelog that has lost its end, or was recreated.

        `kept` is all that it holds. What is newer, this state or that, becomes the state. Returns
        what has to be written, as `finish_loading` does.
        """
        self.next_offset = 0
        if kept.ledger.progress > self.ledger.progress or kept.ledger_error is not None:
            self.rows, self.ledger, self.ledger_error = kept.rows, kept.ledger, kept.ledger_error
            self._regressed, self._tombstones = kept._regressed, kept._tombstones
            self._ledger_error_offset = kept._ledger_error_offset
            return self.finish_loading(next_offset)
        self._regressed |= {key for key, row in self.rows.items() if kept.rows.get(key) != row}
        for key in kept.rows.keys() - self.rows.keys():
            self._regressed.add(key)
            self._tombstones[key] = record_position(kept.rows[key], ())
        return self.finish_loading(next_offset)

    def went_back(self, own: Iterable[OffsetRange]) -> bool:
        """Tell whether own records were given offsets that the changelog had given before."""
        return any(start < self.next_offset for start, _ in own)

    def find_gaps(self, own: Iterable[OffsetRange]) -> list[OffsetRange]:
        """Take note of the offsets that own records were given; return what lies between them."""
        gaps = []
        for start, end in sorted(own):
            if start > self.next_offset:
                gaps.append((self.next_offset, start))
            self.next_offset = max(self.next_offset, end)
        return gaps

    def _newest_position(self, key: bytes) -> Position:
        row = self.rows.get(key)
        if row is not None:
            return record_position(row, ())
        return self._tombstones.get(key, NO_POSITION)

    def _apply_ledger(self, value: bytes | None) -> None:
        if value is None:
            return
        try:
            ledger = decode_ledger_row(value)
        except RowError as error:
            offset = decode_ledger_offset(value)
            offset = self.ledger.offset + 1 if offset is None else offset
            if offset > self.ledger.offset:
                self.ledger_error, self._ledger_error_offset = str(error), offset
            return
        if ledger.progress >= self.ledger.progress:
            self.ledger = ledger
            if ledger.offset >= self._ledger_error_offset:
                self.ledger_error = None


def record_position(value: bytes | None, headers: Headers) -> Position:
    """Position of a changelog record; that before all where it cannot be read."""
    try:
        if value is not None:
            return decode_row_position(value)
        for name, header in headers:
            if name == POSITION_HEADER:
                return decode_position(header)
    except RowError as error:
        log.error("changelog record without a position", reason=str(error))
    return NO_POSITION
