"""What a batch keeps about submissions that were not applied."""

import pytest

from contract.evidence import EvidenceReason
from contract.frame import Submission, encode_frame
from contract.position import Receipt
from processor.core import write_batch
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record, Unapplied
from processor.core.write_batch import WriteBatch

NOW = 1_700_000_000_000
NEVER = 2**53
A = ("client", "a")


def batch_of(*frames: bytes, shift: int = 0) -> WriteBatch:
    batch = WriteBatch(PartitionState(0))
    for offset, frame in enumerate(frames, shift):
        reduce_frame(batch, Record(0, offset, NOW + offset, frame, shift), partitions=1)
    return batch


def test_an_applied_submission_leaves_nothing() -> None:
    assert batch_of(encode_frame(NEVER, [Submission(*A, 1)])).unapplied == {}


def test_the_newest_stale_submission_is_kept_with_its_receipt() -> None:
    newest = Submission(*A, 2, timestamp=NOW / 1000)
    older = Submission(*A, 2, timestamp=NOW / 1000 - 60)
    batch = batch_of(
        encode_frame(NEVER, [newest]),
        encode_frame(NEVER, [older, Submission(*A, 1)]),
        encode_frame(NEVER, [Submission("client", "b", 1), older]),
        shift=3,
    )
    key = (*A, EvidenceReason.STALE)
    assert batch.unapplied == {key: Unapplied(Receipt(0, 2, 1, NOW + 5), "", 3)}


def test_a_late_frame_is_noted_for_each_entity() -> None:
    batch = batch_of(encode_frame(NOW - 1, [Submission(*A, 1), Submission("client", "b", 1)]))
    assert batch.unapplied == {
        ("client", id, EvidenceReason.LATE): Unapplied(Receipt(0, 0, index, NOW), "", 1)
        for index, id in enumerate("ab")
    }


def test_a_dead_letter_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.core.write_batch.MAX_ROW_BYTES", 100)
    batch = batch_of(encode_frame(NEVER, [Submission(*A, 1, labels={"name": "x" * 200})]))
    ((key, found),) = batch.unapplied.items()
    assert key == (*A, EvidenceReason.DEAD_LETTERED)
    assert "would have" in found.detail
    assert found.receipt == Receipt(0, 0, 0, NOW)


def test_what_is_no_entity_has_no_evidence() -> None:
    frame = encode_frame(NEVER, [Submission("cluster", "a", 1), Submission("client", "a|b", 1)])
    batch = batch_of(frame, b"no frame")
    assert len(batch.dead_letters) == 3
    assert batch.unapplied == {}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_batch, "MAX_UNAPPLIED", 10)
    batch = batch_of(encode_frame(NOW - 1, [Submission("client", str(n), 1) for n in range(50)]))
    assert len(batch.unapplied) == 10


def test_a_replay_is_not_noted_again() -> None:
    batch = WriteBatch(PartitionState(0))
    for _ in range(2):
        late = encode_frame(NOW - 1, [Submission(*A, 1)])
        reduce_frame(batch, Record(0, 0, NOW, late), partitions=1)
    assert batch.unapplied[(*A, EvidenceReason.LATE)].times == 1


def test_a_part_that_is_split_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.core.write_batch.RECORD_BATCH_BYTES", 300)
    newest = Submission(*A, 2, timestamp=NOW / 1000)
    older = Submission(*A, 2, timestamp=NOW / 1000 - 60)
    others = [Submission("client", f"b{number}", 1) for number in range(8)]
    batch = batch_of(encode_frame(NEVER, [newest, *others, older]))
    assert batch.unapplied[(*A, EvidenceReason.STALE)].times == 1
