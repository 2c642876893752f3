"""The fold: what one record of the submissions topic does to a batch. Pure, so that tests can
replay anything; nothing here waits, and bad data raises nothing.
"""

import msgspec

from contract.anomaly import ANOMALY_VERSION, Anomaly, Reason
from contract.dead_letter import A_ROW, WHOLE_FRAME
from contract.frame import Frame, FrameError, Submission, decode_frame, entity_key, partition_of
from contract.kinds import KINDS, is_id
from contract.row import RowError, RowVersionError
from processor.anomalies import notice
from processor.batch import MAX_ROW_BYTES, DeadLetter, PartitionBatch, Record
from processor.reduce import Outcome, reduce

_PREFIXES = {kind: entity_key(kind, "") for kind in KINDS}

MAX_ANOMALIES = 100
"""Most anomalies that a batch keeps of a partition to report; it counts all."""
MAX_DETAIL = 1_000
"""Characters of an anomaly's detail: it may quote a label of any length."""


def fold(batch: PartitionBatch, record: Record, partitions: int) -> None:
    """Fold a record into a batch of its partition; one that the ledger covers is a replay."""
    ledger = batch.ledger
    if record.offset <= ledger.offset:
        return
    ledger.count_record(record.offset, record.mark, record.appended)
    try:
        frame = decode_frame(record.value)
    except FrameError as error:
        # How many submissions it held cannot be known: it counts as one.
        ledger.read += 1
        ledger.dead_lettered += 1
        batch.submissions += 1
        batch.dead_letters.append(DeadLetter(record, WHOLE_FRAME, record.value or b"", str(error)))
        return
    ledger.read += len(frame.submissions)
    batch.submissions += len(frame.submissions)
    if frame.is_late(record.appended):
        ledger.late += len(frame.submissions)
        return
    _fold_submissions(batch, record, frame, partitions)


def _fold_submissions(batch: PartitionBatch, record: Record, frame: Frame, partitions: int) -> None:
    outcomes: list[Outcome | None] = []
    for index, submission in enumerate(frame.submissions):
        try:
            outcomes.append(_fold_submission(batch, record, index, submission, partitions))
        except RowError as error:
            outcomes.append(None)
            _refuse(batch, record, index, submission, str(error))
    if too_large := batch.seal():
        _undo(batch, record, frame, outcomes, too_large)
    ledger = batch.ledger
    ledger.applied += outcomes.count(Outcome.APPLIED)
    ledger.stale += outcomes.count(Outcome.STALE)
    ledger.dead_lettered += outcomes.count(None)


def _undo(
    batch: PartitionBatch,
    record: Record,
    frame: Frame,
    outcomes: list[Outcome | None],
    too_large: dict[bytes, int],
) -> None:
    """Refuse what this frame applied to rows that would be too large to write.

    All of it, for each such row: which submission was one too many is not worth the time.
    """
    for index, submission in enumerate(frame.submissions):
        key = entity_key(submission.kind, submission.id)
        if outcomes[index] is Outcome.APPLIED and key in too_large:
            outcomes[index] = None
            reason = (
                f"the row of {submission.kind}:{submission.id} would have {too_large[key]} bytes, "
                f"and at most {MAX_ROW_BYTES} can be written"
            )
            _refuse(batch, record, index, submission, reason)


def _refuse(
    batch: PartitionBatch, record: Record, index: int, submission: Submission, reason: str
) -> None:
    value = msgspec.json.encode(submission)
    batch.dead_letters.append(DeadLetter(record, index, value, reason))


def _fold_submission(
    batch: PartitionBatch, record: Record, index: int, submission: Submission, partitions: int
) -> Outcome:
    prefix = _PREFIXES.get(submission.kind)
    if prefix is None:
        raise _unknown(submission)
    key = prefix + submission.id.encode()
    try:
        row = batch.row(key)
    except RowVersionError:  # a newer worker wrote it: it is not for this one to touch
        raise
    except RowError as error:
        _keep(batch, record, key, error)
        row = None
    if row is None:  # what has a row here was checked when it came to it
        if not is_id(submission.id):
            raise _unknown(submission)
        if partition_of(key, partitions) != record.partition:
            raise RowError(f"{key!r} does not belong into partition {record.partition}")
    reduced, outcome = reduce(row, submission, (record.offset, index), record.appended)
    if reduced is not row and reduced is not None:
        try:
            found = notice(batch.state.memories, key, row, submission, record.appended)
        except ArithmeticError:  # a number beyond all bounds, which no gateway lets pass
            found = ()
        for reason, detail in found:
            _note_anomaly(batch, record, index, submission, reason, detail)
        batch.put(key, reduced)
    return outcome


def _keep(batch: PartitionBatch, record: Record, key: bytes, error: RowError) -> None:
    """Keep what is left of a row that nobody can read: the entity's reports make it whole again."""
    name = key.decode(errors="replace")
    reason = f"the row of {name} cannot be read, and was begun anew: {error}"
    batch.dead_letters.append(DeadLetter(record, A_ROW, batch.held(key) or b"", reason))


def _unknown(submission: Submission) -> RowError:
    return RowError(f"{submission.kind}:{submission.id} is no entity known here")


def _note_anomaly(
    batch: PartitionBatch,
    record: Record,
    index: int,
    submission: Submission,
    reason: Reason,
    detail: str,
) -> None:
    counted = (submission.kind, reason)
    batch.noticed[counted] = batch.noticed.get(counted, 0) + 1
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
                appended=record.appended,
            )
        )
