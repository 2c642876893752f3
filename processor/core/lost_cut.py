"""A record of which only a part was counted, and that the log has lost since. Pure.

A frame whose rows are more than one record batch takes is written in several, each with a ledger
that counts a part of it. A worker may be killed between two of them, and the log may lose this
record before another worker reads it again. Another record is then at its offset, and all of that
is new, while rows already have the logical offset of the lost one.
"""

import dataclasses

import structlog

from contract.row import LedgerRow
from processor.core.write_batch import Record

log = structlog.get_logger(__name__)


def is_cut_lost(ledger: LedgerRow, record: Record) -> bool:
    """Tell whether the next record is another one than that of which a part is counted."""
    cut = ledger.cut
    if cut is None or record.epoch is None or record.topic is None:
        return False
    is_same_epoch = cut.epoch in (record.epoch, -1)
    return not is_same_epoch or cut.appended != record.appended_ms


def begin_after_cut(ledger: LedgerRow, record: Record) -> Record:
    """Begin a history at the record, after the logical offset of the lost one; return it there."""
    assert record.epoch is not None
    assert record.topic is not None
    log.error(
        "the source went back: a new history begins",
        partition=record.partition,
        reason="the record of which a part was counted is another one now",
        offset=record.source_offset,
        logical_offset=ledger.offset + 2,
    )
    ledger.cover_uncounted(ledger.offset + 1)
    ledger.begin_history(record.source_offset, record.epoch, record.topic)
    shift = ledger.shift
    return dataclasses.replace(record, offset=record.source_offset + shift, shift=shift)
