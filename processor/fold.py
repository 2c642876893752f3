"""The fold: one record of the submissions topic changes rows, the ledger and dead letters.

Changes are gathered in a batch, over the partition's state, and become part of the state when
Kafka has acknowledged them: whatever happens to a half-done batch, the state is what Kafka has.
"""

import copy
from dataclasses import dataclass, field

import msgspec

from contract.anomaly import ANOMALY_VERSION, Anomaly, Reason
from contract.frame import (
    Frame,
    FrameError,
    Submission,
    decode_frame,
    entity_key,
    partition_of,
)
from contract.kinds import KINDS, is_id
from contract.position import Position
from contract.row import (
    POSITION_HEADER,
    EntityRow,
    LedgerRow,
    RowError,
    decode_entity_row,
    encode_position,
    encode_row,
)
from processor.anomalies import notice
from processor.reduce import Outcome, reduce
from processor.state import Headers, PartitionState

MAX_ANOMALIES = 100
"""Most anomalies that a batch keeps of a partition to tell of; it counts all."""


@dataclass(frozen=True)
class Record:
    """A record of the submissions topic; `appended` is in milliseconds since the epoch."""

    partition: int
    offset: int
    appended: int
    value: bytes | None


@dataclass(frozen=True)
class DeadLetter:
    """What could not be processed: a whole record (index -1), or one submission of a frame."""

    record: Record
    index: int
    value: bytes
    reason: str


@dataclass(frozen=True)
class Change:
    """A record to write to the changelog; no value removes the row."""

    value: bytes | None
    headers: Headers = ()


@dataclass
class PartitionBatch:
    """What one batch does to one partition."""

    state: PartitionState
    changes: dict[bytes, Change] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    noticed: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """Number of anomalies by kind and reason."""
    submissions: int = 0
    """Submissions that were read."""
    ledger: LedgerRow = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.state.ledger)

    def row(self, key: bytes) -> bytes | None:
        """The row as this batch leaves it, encoded."""
        change = self.changes.get(key)
        return self.state.rows.get(key) if change is None else change.value

    def put(self, key: bytes, row: EntityRow) -> None:
        self.changes[key] = Change(encode_row(row))

    def delete(self, key: bytes, position: Position) -> None:
        """Remove a row; the tombstone says which position of it was removed."""
        self.changes[key] = tombstone(position)

    def settle(self) -> None:
        """Make it part of the state: Kafka has acknowledged all of it."""
        for key, change in self.changes.items():
            if change.value is None:
                self.state.rows.pop(key, None)
                self.state.memories.pop(key, None)
            else:
                self.state.rows[key] = change.value
        self.state.ledger = self.ledger


def fold(batch: PartitionBatch, record: Record, partitions: int) -> None:
    """Fold a record into a batch of its partition; one that the ledger covers is a replay."""
    ledger = batch.ledger
    if record.offset <= ledger.offset:
        return
    ledger.offset = record.offset
    try:
        frame = decode_frame(record.value)
    except FrameError as error:
        # How many submissions it held cannot be known: it counts as one.
        ledger.read += 1
        ledger.dead_lettered += 1
        batch.submissions += 1
        batch.dead_letters.append(DeadLetter(record, -1, record.value or b"", str(error)))
        return
    ledger.read += len(frame.submissions)
    batch.submissions += len(frame.submissions)
    if frame.is_late(record.appended):
        ledger.late += len(frame.submissions)
        return
    _fold_submissions(batch, record, frame, partitions)


def _fold_submissions(batch: PartitionBatch, record: Record, frame: Frame, partitions: int) -> None:
    ledger = batch.ledger
    for index, submission in enumerate(frame.submissions):
        try:
            outcome = _fold_submission(batch, record, index, submission, partitions)
        except RowError as error:
            ledger.dead_lettered += 1
            value = msgspec.json.encode(submission)
            batch.dead_letters.append(DeadLetter(record, index, value, str(error)))
            continue
        if outcome is Outcome.APPLIED:
            ledger.applied += 1
        else:
            ledger.stale += 1


def _fold_submission(
    batch: PartitionBatch, record: Record, index: int, submission: Submission, partitions: int
) -> Outcome:
    if submission.kind not in KINDS or not is_id(submission.id):
        raise RowError(f"{submission.kind}:{submission.id} is no entity known here")
    key = entity_key(submission.kind, submission.id)
    if partition_of(key, partitions) != record.partition:
        raise RowError(f"{key!r} does not belong into partition {record.partition}")
    held = batch.row(key)
    row = None if held is None else decode_entity_row(held)
    reduced, outcome = reduce(row, submission, Position(record.offset, index), record.appended)
    if reduced is not row and reduced is not None:
        try:
            found = notice(batch.state.memories, key, row, submission, record.appended)
        except ArithmeticError:  # a number beyond all bounds, which no gateway lets pass
            found = ()
        for reason, detail in found:
            _note_anomaly(batch, record, index, submission, reason, detail)
        batch.put(key, reduced)
    return outcome


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
                detail=detail,
                partition=record.partition,
                offset=record.offset,
                index=index,
                appended=record.appended,
            )
        )


def tombstone(position: Position) -> Change:
    return Change(None, [(POSITION_HEADER, encode_position(position))])
