"""State of one partition: its rows, its ledger, and its changelog offset."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from contract.ledger import (
    LedgerRow,
    decode_ledger_offset,
    decode_ledger_row,
    empty_ledger,
    ledger_key,
)
from contract.position import NO_POSITION, Position
from contract.row import POSITION_HEADER, RowError, decode_position, decode_row_position
from contract.total import is_total_key
from processor.core.anomaly_detector import EntityHistory
from service.clock import uptime

log = structlog.get_logger(__name__)

Headers = Sequence[tuple[str, bytes]]
OffsetRange = tuple[int, int]
"""Offsets [start, end) of the changelog."""
MAX_RECORD_BYTES = 1024 * 1024
"""A larger row came in a compressed record from a foreign producer; workers could not write it."""


class ChangelogMark(NamedTuple):
    """Id of the changelog topic, and leader epoch of its partition."""

    topic: str
    epoch: int


class PartitionState:
    """Encoded rows by key, the ledger row, and the next expected changelog offset."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.ledger_key = ledger_key(partition)
        self.rows: dict[bytes, bytes] = {}
        self.ledger: LedgerRow = empty_ledger()
        self.next_offset = 0
        self.loaded = False
        self.histories: dict[bytes, EntityHistory] = {}
        """State of the anomaly detector per entity; not stored in any topic."""
        self.unreadable = 0
        """Number of rows that the last expiry run could not decode."""
        self.ledger_error: str | None = None
        """Why the newest ledger cannot be decoded. The partition is not read until a newer one can
        be."""
        self.source_fault: str | None = None
        """Why it is uncertain which source records are counted. The partition is not read until an
        operator has decided."""
        self.awaits_source = False
        """Whether Kafka's information is still insufficient to compare the ledger with the source.
        The partition is not read until it is sufficient."""
        self.source_topic: str | None = None
        """Id of the submissions topic at the last comparison with the ledger."""
        self.source_epoch = -1
        """Leader epoch of the source at that comparison."""
        self.changelog: ChangelogMark | None = None
        """The log from which the state was last loaded."""
        self.current_at = uptime()
        """When the state last included all of its changelog; for a new state, when
        reading began."""
        self._ledger_error_offset = -1
        self._tombstones: dict[bytes, Position] = {}
        self._regressed: set[bytes] = set()
        self._total_keys: frozenset[bytes] | None = None

    def apply(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        """Apply a changelog record while loading: the newest position wins.

        A worker that had lost the partition may have written an older record last. Compaction keeps
        the last record, so the keys of such records are remembered.
        """
        if key == self.ledger_key:  # another partition's ledger is a row that cannot be decoded
            self._apply_ledger(value)
            return
        if value is not None and len(value) > MAX_RECORD_BYTES:
            log.error("row skipped: too large", key=key[:100], size=len(value))
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
        """Finish loading; return the newest position of each key whose last record is not the
        newest.

        A returned key that is not among the rows was deleted at that position. If the ledger cannot
        be decoded, the state is not loaded, and the next load reads everything again. The keys of a
        state that is not loaded are kept until it is.
        """
        self.next_offset = max(self.next_offset, next_offset) if self.ledger_error is None else 0
        self.histories.clear()  # another worker may have continued
        self.forget_total_keys()
        self._update_loaded()
        if self.loaded and not self._regressed:
            self._tombstones.clear()
        return self.regressed_keys() if self.loaded else {}

    def regressed_keys(self) -> dict[bytes, Position]:
        """Return the same as `finish_loading`; valid until `clear_regressed`."""
        return {key: self._newest_position(key) for key in self._regressed}

    def clear_regressed(self) -> None:
        """Record that the last record of every key is the newest now."""
        self._regressed.clear()
        self._tombstones.clear()

    @property
    def total_keys(self) -> frozenset[bytes]:
        """Keys of the totals among the rows (contract.total)."""
        if self._total_keys is None:
            self._total_keys = frozenset(filter(is_total_key, self.rows))
        return self._total_keys

    def forget_total_keys(self) -> None:
        """Forget the known keys, because there may be others now."""
        self._total_keys = None

    def stop_for_source(self, reason: str) -> None:
        """Stop reading the partition; see `source_fault`."""
        self.source_fault, self.awaits_source = reason, False
        self._update_loaded()

    def await_source(self) -> None:
        """Stop reading the partition; see `awaits_source`."""
        self.awaits_source = True
        self._update_loaded()

    def resume_from_source(self, topic: str, epoch: int) -> None:
        """Record that the ledger was compared with this topic at this leader epoch."""
        self.source_topic, self.source_epoch = topic, epoch
        if self.is_blocked_by_source:
            self.source_fault, self.awaits_source = None, False
            self._update_loaded()

    def forget_source_epoch(self) -> None:
        """Force a comparison with the source at the next record and at the next check."""
        self.source_epoch = -1

    @property
    def is_blocked_by_source(self) -> bool:
        """Whether the partition is not read because of its source."""
        return self.source_fault is not None or self.awaits_source

    def _update_loaded(self) -> None:
        self.loaded = self.ledger_error is None and not self.is_blocked_by_source

    def newest_offset(self) -> int:
        """Return the newest logical offset of the ledger and all rows.

        Rows are written before their ledger, so a worker that was killed in between leaves newer
        rows.
        """
        rows = (record_position(row, ()).offset for row in self.rows.values())
        return max(self.ledger.offset, max(rows, default=NO_POSITION.offset))

    def needs_comparison(self, ledger: LedgerRow, source_offset: int, epoch: int | None) -> bool:
        """Return whether the ledger must be compared with the source before a record is counted.

        True for a record that the ledger covers, for one of a leader epoch that is newer than the
        last comparison, and for one of an epoch before that of the last record.
        """
        if source_offset < ledger.next_offset:
            return True
        if epoch is None:
            return False
        return epoch > self.source_epoch or (ledger.mark is not None and epoch < ledger.mark.epoch)

    def adopt(self, kept: "PartitionState", next_offset: int) -> dict[bytes, Position]:
        """Finish loading from a changelog that lost its end or was recreated.

        `kept` is everything that the changelog has. The newer of the two states becomes this state.
        Returns the keys to write, as `finish_loading` does.
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

    def has_reused_offsets(self, own: Iterable[OffsetRange]) -> bool:
        """Return whether own records got offsets that the changelog had used before."""
        return any(start < self.next_offset for start, _ in own)

    def find_gaps(self, own: Iterable[OffsetRange]) -> list[OffsetRange]:
        """Record the offsets of own records and return the gaps between them."""
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
    """Return the position of a changelog record; NO_POSITION if it cannot be decoded."""
    try:
        if value is not None:
            return decode_row_position(value)
        for name, header in headers:
            if name == POSITION_HEADER:
                return decode_position(header)
    except RowError as error:
        log.error("changelog record without a position", reason=str(error))
    return NO_POSITION
