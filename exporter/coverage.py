"""What a ledger says of a receipt: its submission is counted, is not yet, or is gone. Pure."""

from enum import Enum

from contract.history import FIRST, History, place_in_log
from contract.position import NO_TIME, Receipt
from contract.row import LedgerRow


class Coverage(Enum):
    COUNTED = "counted"
    WAITING = "waiting"
    LOST = "lost"
    """It was acknowledged, and cut off with the end of the log before it was counted."""


def coverage(ledger: LedgerRow, receipt: Receipt) -> Coverage:
    """Tell what the ledger of a receipt's partition says of it.

    A receipt without a time means the newest history.
    """
    offset, appended = receipt.offset, receipt.appended
    if appended == NO_TIME:
        is_counted = place_in_log(ledger.histories, offset) <= ledger.offset
        return Coverage.COUNTED if is_counted else Coverage.WAITING
    histories = [FIRST, *ledger.histories]
    number = _history_of(ledger, histories, appended)
    history = histories[number]
    if number == len(histories) - 1:
        # Newer than all that was counted: if its offset is covered, the source went back.
        is_counted = offset + history.shift <= ledger.offset and appended <= ledger.newest
        if ledger.mark is None and not ledger.histories:  # of an older version, without times
            is_counted = offset <= ledger.offset
        return Coverage.COUNTED if is_counted else Coverage.WAITING
    if offset + history.shift < histories[number + 1].first:
        return Coverage.COUNTED
    return Coverage.LOST


def _history_of(ledger: LedgerRow, histories: list[History], appended: int) -> int:
    """Number of the history that was written at a time."""
    for number in range(len(histories) - 1, 0, -1):
        began = histories[number].appended
        if appended >= (ledger.newest + 1 if began is None else began):
            return number
    return 0
