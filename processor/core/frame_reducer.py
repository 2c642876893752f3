"""Applies one record of the submissions topic to a batch. Pure; invalid data raises nothing."""

from collections.abc import Sequence

import msgspec

from contract.anomaly import ANOMALY_VERSION, Anomaly, Reason
from contract.dead_letter import CORRUPT_ROW, WHOLE_FRAME
from contract.entity import entity_key, partition_of
from contract.evidence import EvidenceReason
from contract.frame import Frame, FrameError, Submission, decode_frame
from contract.kinds import KINDS, is_id
from contract.ledger import RecordCut
from contract.row import EntityRow, RowError, RowVersionError
from processor.core.anomaly_detector import detect
from processor.core.growth import COUNTERS, Excess, Growth
from processor.core.row_reducer import ReduceOutcome, reduce_row
from processor.core.source_record import DeadLetter, Record
from processor.core.write_batch import MAX_ROW_BYTES, WriteBatch

_PREFIXES = {kind: entity_key(kind, "") for kind in KINDS}

MAX_ANOMALIES = 100
"""Maximum number of anomalies per batch and partition that are written; all are counted."""
MAX_DETAIL = 1_000
"""Maximum length of an anomaly's detail in characters, as it may quote a label."""


def reduce_frame(batch: WriteBatch, record: Record, partitions: int) -> None:
    """Apply a record to a batch of its partition, unless the ledger already covers it."""
    ledger = batch.ledger
    if record.offset <= ledger.offset:
        return
    counted = ledger.cut.count if ledger.cut is not None else 0
    try:
        frame = decode_frame(record.value)
    except FrameError as error:
        # The number of submissions is unknown, so the frame counts as one.
        ledger.count_record(record.offset, record.mark, record.appended_ms)
        ledger.read += 1
        ledger.dead_lettered += 1
        batch.submissions += 1
        batch.dead_letters.append(DeadLetter(record, WHOLE_FRAME, record.value or b"", str(error)))
        return
    if frame.is_late(record.appended_ms):
        ledger.count_record(record.offset, record.mark, record.appended_ms)
        ledger.read += len(frame.submissions)
        batch.submissions += len(frame.submissions)
        ledger.late += len(frame.submissions)
        for index, each in enumerate(frame.submissions):
            batch.note_unapplied(record, index, each.kind, each.id, EvidenceReason.LATE, "")
        return
    _reduce_part(batch, record, frame, range(counted, len(frame.submissions)), partitions)


def _reduce_part(
    batch: WriteBatch,
    record: Record,
    frame: Frame,
    part: range,
    partitions: int,
    is_noted: bool = False,
) -> None:
    """Apply the submissions of a frame at some indexes; all before them must be counted.

    If their rows and totals exceed a record batch, each half is applied separately. `is_noted`: the
    anomalies of these submissions have been recorded.
    """
    letters = len(batch.dead_letters)
    outcomes: dict[int, ReduceOutcome | None] = {}
    for index in part:
        submission = frame.submissions[index]
        try:
            outcomes[index] = _reduce_submission(
                batch, record, index, submission, partitions, is_noted
            )
        except RowError as error:
            outcomes[index] = None
            _dead_letter(batch, record, index, submission, str(error))
    encoded = batch.encode_staged()
    if batch.exceeds_record_batch(encoded) and len(part) > 1:
        del batch.dead_letters[letters:]
        middle = len(part) // 2
        for half in (part[:middle], part[middle:]):
            _reduce_part(batch, record, frame, half, partitions, is_noted=True)
        return
    if encoded.too_large:
        _undo(batch, record, frame, outcomes, encoded.too_large)
    batch.add(encoded)
    _count(batch, record, frame, part, [*outcomes.values()])


def _count(
    batch: WriteBatch,
    record: Record,
    frame: Frame,
    part: range,
    outcomes: list[ReduceOutcome | None],
) -> None:
    ledger = batch.ledger
    if part.stop < len(frame.submissions):
        epoch = -1 if record.epoch is None else record.epoch
        ledger.cut = RecordCut(part.stop, epoch, record.appended_ms)
    else:
        ledger.count_record(record.offset, record.mark, record.appended_ms)
    ledger.read += len(part)
    batch.submissions += len(part)
    applied = outcomes.count(ReduceOutcome.APPLIED)
    ledger.applied += applied
    if applied < len(part):
        _note_unapplied(batch, record, frame, part, outcomes)
    ledger.stale += outcomes.count(ReduceOutcome.STALE)
    ledger.dead_lettered += outcomes.count(None)


def _note_unapplied(
    batch: WriteBatch,
    record: Record,
    frame: Frame,
    part: range,
    outcomes: list[ReduceOutcome | None],
) -> None:
    reasons = {each.index: each.reason for each in batch.dead_letters if each.record is record}
    for index, outcome in zip(part, outcomes, strict=True):
        each = frame.submissions[index]
        if outcome is None:
            reason, detail = EvidenceReason.DEAD_LETTERED, reasons.get(index, "")
        elif outcome is ReduceOutcome.STALE:
            reason, detail = EvidenceReason.STALE, ""
        else:
            continue
        batch.note_unapplied(record, index, each.kind, each.id, reason, detail)


def _undo(
    batch: WriteBatch,
    record: Record,
    frame: Frame,
    outcomes: dict[int, ReduceOutcome | None],
    too_large: dict[bytes, int],
) -> None:
    """Reject those of these submissions that changed rows which became too large.

    All submissions of such a row are rejected: finding the one that exceeded the limit is not worth
    the time.
    """
    for index in outcomes:
        submission = frame.submissions[index]
        key = entity_key(submission.kind, submission.id)
        if outcomes[index] is ReduceOutcome.APPLIED and key in too_large:
            outcomes[index] = None
            reason = (
                f"the row of {submission.kind}:{submission.id} would have {too_large[key]} bytes; "
                f"the maximum is {MAX_ROW_BYTES}"
            )
            _dead_letter(batch, record, index, submission, reason)


def _dead_letter(
    batch: WriteBatch, record: Record, index: int, submission: Submission, reason: str
) -> None:
    value = msgspec.json.encode(submission)
    batch.dead_letters.append(DeadLetter(record, index, value, reason))


def _reduce_submission(
    batch: WriteBatch,
    record: Record,
    index: int,
    submission: Submission,
    partitions: int,
    is_noted: bool,
) -> ReduceOutcome:
    prefix = _PREFIXES.get(submission.kind)
    if prefix is None:
        raise _unknown_entity(submission)
    key = prefix + submission.id.encode()
    try:
        row = batch.row(key)
    except RowVersionError:  # a newer worker wrote it, so this one must not change it
        raise
    except RowError as error:
        _dead_letter_row(batch, record, key, error)
        row = None
    if row is None:  # an existing row's key has been checked before
        if not is_id(submission.id):
            raise _unknown_entity(submission)
        if partition_of(key, partitions) != record.partition:
            raise RowError(f"{key!r} does not belong to partition {record.partition}")
    position = (record.offset, index)
    reduced, outcome = reduce_row(row, submission, position, record.appended_ms)
    if reduced is not row and reduced is not None:
        previous = row
        if row is not None and (
            row.incarnation != submission.incarnation or row.removed or submission.removed
        ):
            previous = None
        growth: Growth = ()
        excess: Sequence[Excess] | None = None
        counters = COUNTERS.get(submission.kind)
        if previous is not None and counters is not None:
            try:
                growth, excess = counters.growth_of(previous, submission, record.appended_ms)
            except ArithmeticError:  # an absurdly large number, which gateways reject
                excess = ()
        if not is_noted:
            _note_anomalies(batch, record, index, submission, key, previous, excess)
        batch.stage(key, reduced)
        if growth and counters is not None:
            group = (submission.kind, counters.group_of(reduced.labels))
            batch.growth[group].append((key, position, record.appended_ms, growth))
    return outcome


def _note_anomalies(
    batch: WriteBatch,
    record: Record,
    index: int,
    submission: Submission,
    key: bytes,
    previous: EntityRow | None,
    excess: Sequence[Excess] | None,
) -> None:
    try:
        findings = detect(
            batch.state.histories, key, previous, submission, record.appended_ms, excess
        )
    except ArithmeticError:  # as above
        return
    for reason, detail in findings:
        _record_anomaly(batch, record, index, submission, reason, detail)


def _dead_letter_row(batch: WriteBatch, record: Record, key: bytes, error: RowError) -> None:
    """Keep a row that cannot be decoded; the entity's next reports rebuild it."""
    name = key.decode(errors="replace")
    reason = f"the row of {name} cannot be decoded and was reset: {error}"
    batch.dead_letters.append(
        DeadLetter(record, CORRUPT_ROW, batch.encoded_row(key) or b"", reason)
    )


def _unknown_entity(submission: Submission) -> RowError:
    return RowError(f"{submission.kind}:{submission.id} is not a known entity")


def _record_anomaly(
    batch: WriteBatch,
    record: Record,
    index: int,
    submission: Submission,
    reason: Reason,
    detail: str,
) -> None:
    kind_and_reason = (submission.kind, reason)
    batch.anomaly_counts[kind_and_reason] = batch.anomaly_counts.get(kind_and_reason, 0) + 1
    if len(batch.anomalies) < MAX_ANOMALIES:
        batch.anomalies.append(
            Anomaly(
                version=ANOMALY_VERSION,
                kind=submission.kind,
                id=submission.id,
                reason=reason,
                detail=detail[:MAX_DETAIL],
                partition=record.partition,
                offset=record.source_offset,
                index=index,
                appended_ms=record.appended_ms,
            )
        )
