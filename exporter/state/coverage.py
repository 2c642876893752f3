"""What is known of a receipt: its submission is counted, is not yet, or is gone. Pure.

The ledger says since when each leader epoch and each history had its offsets. The append time of a
receipt tells to which of them it belongs, and its offset whether the ledger came to cover it there.
Append times alone prove nothing where the log has lost its end: brokers' clocks differ, and a clock
may go back. Near such a place, the record in Kafka decides.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from contract.history import FIRST, MAX_EPOCHS, MAX_HISTORIES, History, LeaderEpoch, place_in_log
from contract.position import NO_TIME, Receipt
from contract.row import LedgerRow

MAX_CLOCK_SKEW_MS = 60_000
"""Milliseconds by which the brokers' clocks may differ."""


class ReceiptCoverage(Enum):
    COUNTED = "counted"
    WAITING = "waiting"
    LOST = "lost"
    """It was acknowledged, and cut off or deleted before it was counted."""
    UNKNOWN = "unknown"
    """The ledger does not say; the record at the offset may."""


class LogPlace(NamedTuple):
    """What the log holds at a receipt's offset.

    `appended`: the append time of the record there, None if there is none; `is_counted`: the ledger
    covers this record; `is_deleted`: the log begins after the offset.
    """

    appended: int | None
    is_counted: bool
    is_deleted: bool


class _Stretch(NamedTuple):
    """Records from logical offset `first` to before `end`, of one leader epoch or history.

    The records counted in it have append times from `oldest` on; those counted before it, up to
    `newest_before`. `end` is None for the last one.
    """

    first: int
    end: int | None
    shift: int
    oldest: int
    newest_before: int
    is_epoch: bool = False

    def begins_by(self, offset: int) -> bool:
        """Tell whether Kafka's `offset` is at or after its first record."""
        return self.first - self.shift <= offset


def coverage(ledger: LedgerRow, receipt: Receipt) -> ReceiptCoverage:
    """Tell what the ledger of a receipt's partition says of it.

    A receipt without a time means the newest history. UNKNOWN: see `coverage_in_log`.
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
    """Tell what ledger and log say of a receipt with a time.

    UNKNOWN: nothing that is left says whether it was counted.
    """
    if place.appended == receipt.appended:
        return ReceiptCoverage.COUNTED if place.is_counted else ReceiptCoverage.WAITING
    if place.is_deleted:
        return _only(_coverages(ledger, receipt, MAX_CLOCK_SKEW_MS))
    found = _coverages(ledger, receipt, 0, is_replaced=place.is_counted)
    return _only(
        {ReceiptCoverage.LOST if each is ReceiptCoverage.WAITING else each for each in found}
    )


def _only(found: set[ReceiptCoverage]) -> ReceiptCoverage:
    return found.pop() if len(found) == 1 else ReceiptCoverage.UNKNOWN


def _coverages(
    ledger: LedgerRow, receipt: Receipt, skew: int, *, is_replaced: bool = False
) -> set[ReceiptCoverage]:
    """What holds in each stretch that a receipt may belong to.

    `is_replaced`: the ledger counted another record at its offset, in the newest stretch that
    reaches it.
    """
    found = set()
    for stretch in _stretches(ledger):
        holds_other = is_replaced and stretch.begins_by(receipt.offset)
        is_replaced = is_replaced and not holds_other
        if receipt.appended < stretch.oldest - skew:
            continue
        if holds_other and stretch.is_epoch:
            continue  # in one leader epoch, an offset names one record
        found.add(ReceiptCoverage.LOST if holds_other else _coverage(ledger, stretch, receipt))
        if receipt.appended >= max(stretch.oldest, stretch.newest_before + 1) + skew:
            return found
    if ledger.parted > MAX_HISTORIES:  # those that are not kept any more had shifts of their own
        found.add(ReceiptCoverage.UNKNOWN)
    return found


def _coverage(ledger: LedgerRow, stretch: _Stretch, receipt: Receipt) -> ReceiptCoverage:
    logical = receipt.offset + stretch.shift
    if stretch.end is not None:
        if logical >= stretch.end:
            return ReceiptCoverage.LOST
        if _is_before_kept_epochs(ledger, stretch):
            return ReceiptCoverage.UNKNOWN
        return _covered(ledger, logical)
    # Newer than all that was counted: if its offset is covered, the source went back.
    is_known = receipt.appended <= ledger.newest or ledger.newest == 0
    found = _covered(ledger, logical)
    if logical <= ledger.offset and (is_known or found is not ReceiptCoverage.COUNTED):
        return found
    return ReceiptCoverage.WAITING


def _covered(ledger: LedgerRow, logical: int) -> ReceiptCoverage:
    """Tell what became of a record at or below the ledger: counted, or deleted before."""
    for each in ledger.uncounted:
        if each.first <= logical < each.end:
            return ReceiptCoverage.LOST if each.is_exact else ReceiptCoverage.UNKNOWN
    return ReceiptCoverage.COUNTED


def _is_before_kept_epochs(ledger: LedgerRow, stretch: _Stretch) -> bool:
    """Tell whether a stretch may hold leader epochs that the ledger does not keep any more.

    Of a record acknowledged in one of them, only the log says whether it was cut off unread.
    """
    return len(ledger.epochs) == MAX_EPOCHS and stretch.first < ledger.epochs[0].first


def _stretches(ledger: LedgerRow) -> Iterator[_Stretch]:
    """Stretches of a partition's records, the newest first."""
    epochs = {epoch.first for epoch in ledger.epochs}
    begun: list[History | LeaderEpoch] = [
        *(history for history in ledger.histories if history.first not in epochs),
        *ledger.epochs,
    ]
    end = None
    for each in sorted(begun, key=lambda one: one.first, reverse=True):
        # A history of which nothing was counted has none that is older than the ledger's newest.
        oldest = ledger.newest + 1 if each.appended is None else each.appended
        if each.first == FIRST.first:  # there is none before it
            oldest = NO_TIME
        yield _Stretch(each.first, end, each.shift, oldest, each.newest, each.first in epochs)
        end = each.first
    if end != FIRST.first and ledger.parted <= MAX_HISTORIES:
        yield _Stretch(FIRST.first, end, FIRST.shift, oldest=NO_TIME, newest_before=NO_TIME)
