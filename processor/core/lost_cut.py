"""Handles a record that was counted in part and that the log has lost since.

A frame whose rows exceed one record batch is written in several, each with a ledger that counts a
part of it. A worker may be killed between two of them, and the log may lose the record before
another worker reads it again. The record then at its offset is new as a whole, but rows already
have the logical offset of the lost one.
"""

import dataclasses

import structlog

from contract.ledger import LedgerRow
from processor.core.source_record import Record

log = structlog.get_logger(__name__)


def is_cut_lost(ledger: LedgerRow, record: Record) -> bool:
    """Return whether the next record is not the one that was counted in part."""
    cut = ledger.cut
    if cut is None or record.epoch is None or record.topic is None:
        return False
    is_same_epoch = cut.epoch in (record.epoch, -1)
    return not is_same_epoch or cut.appended != record.appended_ms


def begin_after_cut(ledger: LedgerRow, record: Record) -> Record:
    """Start a history at the record, after the logical offset of the lost one; return it there."""
    assert record.epoch is not None
    assert record.topic is not None
    log.error(
        "the source lost records: a new history begins",
        partition=record.partition,
        reason="the record that was counted in part has been replaced",
        offset=record.source_offset,
        logical_offset=ledger.offset + 2,
    )
    ledger.cover_uncounted(ledger.offset + 1)
    ledger.begin_history(record.source_offset, record.epoch, record.topic)
    shift = ledger.shift
    return dataclasses.replace(record, offset=record.source_offset + shift, shift=shift)
