"""Coverage of a receipt: its submission is counted, waiting, lost, or unknown. Pure.

The ledger stores the first offset and the oldest append time of each leader epoch and history. The
append time of a receipt selects one of them, and its offset shows whether the ledger covers it
there. Append times alone are not sufficient if the log has lost its end, because brokers' clocks
differ and a clock can go back. Near such an offset, the record in Kafka decides.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from contract.history import FIRST, MAX_EPOCHS, MAX_HISTORIES, History, LeaderEpoch, place_in_log
from contract.ledger import LedgerRow
from contract.position import NO_TIME, Receipt

MAX_CLOCK_SKEW_MS = 60_000
"""Milliseconds by which the brokers' clocks may differ."""


class ReceiptCoverage(Enum):
    COUNTED = "counted"
    WAITING = "waiting"
    LOST = "lost"
    """It was acknowledged, and lost or deleted before it was counted."""
    UNKNOWN = "unknown"
    """The ledger is not sufficient; the record at the offset may be."""


class LogPlace(NamedTuple):
    """What the log has at a receipt's offset.

    `appended` is the append time of the record there, None if there is none. `is_counted`: the
    ledger covers this record. `is_deleted`: the log starts after the offset.
    """

    appended: int | None
    is_counted: bool
    is_deleted: bool


class _RecordRange(NamedTuple):
    """Records from logical offset `first` up to `end` (exclusive) of one leader epoch or history.

    Its counted records have append times of at least `oldest`; all records before them have at most
    `newest_before`. `end` is None for the last range.
    """

    first: int
    end: int | None
    shift: int
    oldest: int
    newest_before: int
    is_epoch: bool = False

    def begins_by(self, offset: int) -> bool:
        """Return whether Kafka's `offset` is at or after the first record."""
        return self.first - self.shift <= offset


def coverage(ledger: LedgerRow, receipt: Receipt) -> ReceiptCoverage:
    """Return the coverage of a receipt according to its partition's ledger.

    A receipt without a time refers to the newest history. If the result is UNKNOWN, call
    `coverage_in_log`.
    """
    if receipt.appended == NO_TIME:
        logical = place_in_log(ledger.histories, receipt.offset)
        return _covered(ledger, logical) if logical <= ledger.offset else ReceiptCoverage.WAITING
    found = _coverages(ledger, receipt, MAX_CLOCK_SKEW_MS)
    return (
        found.pop()
        if found in ({ReceiptCoverage.COUNTED}, {ReceiptCoverage.WAITING})
        else ReceiptCoverage.UNKNOWN
    )


def coverage_in_log(ledger: LedgerRow, receipt: Receipt, place: LogPlace) -> ReceiptCoverage:
    """Return the coverage of a receipt with a time according to ledger and log.

    UNKNOWN means that it cannot be determined whether the submission was counted.
    """
    if place.appended == receipt.appended:
        return ReceiptCoverage.COUNTED if place.is_counted else ReceiptCoverage.WAITING
    if place.is_deleted:
        return _single(_coverages(ledger, receipt, MAX_CLOCK_SKEW_MS))
    found = _coverages(ledger, receipt, 0, is_replaced=place.is_counted)
    return _single(
        {ReceiptCoverage.LOST if each is ReceiptCoverage.WAITING else each for each in found}
    )


def _single(found: set[ReceiptCoverage]) -> ReceiptCoverage:
    return found.pop() if len(found) == 1 else ReceiptCoverage.UNKNOWN


def _coverages(
    ledger: LedgerRow, receipt: Receipt, skew: int, *, is_replaced: bool = False
) -> set[ReceiptCoverage]:
    """Return the coverage in each record range that a receipt may belong to.

    `is_replaced`: the ledger counted another record at the receipt's offset, in the newest range
    that contains it.
    """
    found = set()
    for span in _record_ranges(ledger):
        holds_other = is_replaced and span.begins_by(receipt.offset)
        is_replaced = is_replaced and not holds_other
        if receipt.appended < span.oldest - skew:
            continue
        if holds_other and span.is_epoch:
            continue  # within a leader epoch, an offset identifies one record
        found.add(ReceiptCoverage.LOST if holds_other else _coverage(ledger, span, receipt))
        if receipt.appended >= max(span.oldest, span.newest_before + 1) + skew:
            return found
    if ledger.parted > MAX_HISTORIES:  # older histories had unknown shifts
        found.add(ReceiptCoverage.UNKNOWN)
    return found


def _coverage(ledger: LedgerRow, span: _RecordRange, receipt: Receipt) -> ReceiptCoverage:
    logical = receipt.offset + span.shift
    if span.end is not None:
        if logical >= span.end:
            return ReceiptCoverage.LOST
        if _is_before_kept_epochs(ledger, span):
            return ReceiptCoverage.UNKNOWN
        return _covered(ledger, logical)
    # A receipt newer than all counted records, at a covered offset: the source lost records.
    is_known = receipt.appended <= ledger.newest or ledger.newest == 0
    found = _covered(ledger, logical)
    if logical <= ledger.offset and (is_known or found is not ReceiptCoverage.COUNTED):
        return found
    return ReceiptCoverage.WAITING


def _covered(ledger: LedgerRow, logical: int) -> ReceiptCoverage:
    """Return the coverage of a record at or below the ledger: counted, lost or unknown."""
    for each in ledger.uncounted:
        if each.first <= logical < each.end:
            return ReceiptCoverage.LOST if each.is_exact else ReceiptCoverage.UNKNOWN
    return ReceiptCoverage.COUNTED


def _is_before_kept_epochs(ledger: LedgerRow, span: _RecordRange) -> bool:
    """Return whether a range may include leader epochs that the ledger no longer has.

    Whether a record acknowledged in one of them was lost is known only from the log.
    """
    return len(ledger.epochs) == MAX_EPOCHS and span.first < ledger.epochs[0].first


def _record_ranges(ledger: LedgerRow) -> Iterator[_RecordRange]:
    """Yield the record ranges of a partition, newest first."""
    epochs = {epoch.first for epoch in ledger.epochs}
    begun: list[History | LeaderEpoch] = [
        *(history for history in ledger.histories if history.first not in epochs),
        *ledger.epochs,
    ]
    end = None
    for each in sorted(begun, key=lambda one: one.first, reverse=True):
        # A history without counted records has only records newer than the ledger's newest.
        oldest = ledger.newest + 1 if each.appended is None else each.appended
        if each.first == FIRST.first:  # nothing precedes it
            oldest = NO_TIME
        yield _RecordRange(each.first, end, each.shift, oldest, each.newest, each.first in epochs)
        end = each.first
    if end != FIRST.first and ledger.parted <= MAX_HISTORIES:
        yield _RecordRange(FIRST.first, end, FIRST.shift, oldest=NO_TIME, newest_before=NO_TIME)
