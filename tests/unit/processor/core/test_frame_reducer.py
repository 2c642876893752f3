"""The frame reducer counts every submission once, whatever its outcome and number of deliveries."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.dead_letter import CORRUPT_ROW
from contract.entity import entity_key, partition_of
from contract.frame import Submission, encode_frame
from contract.row import decode_entity_row
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from tests.unit.processor.core.test_row_reducer import some

PARTITIONS = 1
NOW = 1_700_000_000_000


def record(offset: int, *submissions: Submission, answer_by: int = 2**53) -> Record:
    return Record(0, offset, NOW + offset, encode_frame(answer_by, list(submissions)))


def client(id: str = "a", **metrics: int) -> Submission:
    return Submission("client", id, 1, metrics=dict(metrics))


def test_a_frame_is_reduced_in_order() -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, record(0, client(a=1), client(a=2)), PARTITIONS)
    row = batch.row(b"client:a")
    assert row is not None
    assert (row.metrics, row.position) == ({"a": 2}, (0, 1))
    assert (batch.ledger.read, batch.ledger.applied) == (2, 2)
    assert batch.ledger.offset == 0


def test_a_batch_leaves_the_state_unchanged_until_it_is_committed() -> None:
    state = PartitionState(0)
    batch = WriteBatch(state)
    reduce_frame(batch, record(0, client(a=1)), PARTITIONS)
    assert (state.rows, state.ledger.offset) == ({}, -1)
    batch.commit()
    assert (list(state.rows), state.ledger.offset) == ([b"client:a"], 0)


@pytest.mark.parametrize(("kind", "id"), [("ledger", "0"), ("router", "a"), ("client", "a:b")])
def test_a_submission_of_an_unknown_entity_is_a_dead_letter(kind: str, id: str) -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, record(0, Submission(kind, id, 1)), PARTITIONS)
    assert batch.changes == {}
    assert "not a known entity" in batch.dead_letters[0].reason
    assert batch.ledger.balances


def test_no_submission_of_a_late_frame_is_applied() -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, record(0, client(a=1), client(a=2), answer_by=NOW - 1), PARTITIONS)
    assert batch.changes == {}
    assert (batch.ledger.read, batch.ledger.late) == (2, 2)


def test_a_record_that_the_ledger_covers_is_a_replay() -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, record(0, client(a=1)), PARTITIONS)
    before = msgspec.structs.replace(batch.ledger)
    reduce_frame(batch, record(0, client(a=5)), PARTITIONS)
    assert batch.ledger == before


@pytest.mark.parametrize("value", [None, b"", b"rubbish", b'{"version":99}'])
def test_an_undecodable_frame_is_one_dead_letter(value: bytes | None) -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, Record(0, 7, NOW, value), PARTITIONS)
    ledger = batch.ledger
    assert (ledger.read, ledger.dead_lettered, ledger.offset) == (1, 1, 7)
    [letter] = batch.dead_letters
    assert (letter.index, letter.value) == (-1, value or b"")
    assert letter.reason


def test_a_submission_in_a_foreign_partition_is_a_dead_letter() -> None:
    """Otherwise one entity would have two rows, and so two series."""
    key = entity_key("client", "a")
    foreign = 1 - partition_of(key, 2)
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, Record(foreign, 0, NOW, encode_frame(2**53, [client(a=1)])), 2)
    assert batch.changes == {}
    assert [letter.index for letter in batch.dead_letters] == [0]
    assert batch.ledger.balances


def test_a_row_of_a_newer_version_is_left_unchanged() -> None:
    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, record(0, client(a=1)), PARTITIONS)
    batch.commit()
    newer = batch.state.rows[b"client:a"].replace(b'"version":1', b'"version":2')
    batch.state.rows[b"client:a"] = newer
    batch = WriteBatch(batch.state)
    reduce_frame(batch, record(1, client(a=2)), PARTITIONS)
    assert batch.changes == {}
    assert [letter.reason for letter in batch.dead_letters] == ["row version 2 is not supported"]
    assert batch.ledger.balances


def test_a_newer_row_of_another_structure_is_left_unchanged() -> None:
    newer = b'{"version":2,"offset":0,"index":0,"values":[1,2]}'
    state = PartitionState(0)
    state.rows[b"client:a"] = newer
    batch = WriteBatch(state)
    reduce_frame(batch, record(1, client(a=2)), PARTITIONS)
    assert batch.changes == {}
    assert [letter.reason for letter in batch.dead_letters] == ["row version 2 is not supported"]


def test_an_undecodable_row_is_kept_as_a_dead_letter_and_reset() -> None:
    state = PartitionState(0)
    state.rows[b"client:a"] = b"\xffrubbish"
    batch = WriteBatch(state)
    reduce_frame(batch, record(1, client(a=2), client(a=3)), PARTITIONS)
    [letter] = batch.dead_letters
    assert (letter.index, letter.value) == (CORRUPT_ROW, b"\xffrubbish")
    assert "client:a cannot be decoded and was reset" in letter.reason
    change = batch.changes[b"client:a"]
    assert isinstance(change, bytes)
    assert decode_entity_row(change).metrics == {"a": 3}
    assert (batch.ledger.read, batch.ledger.applied) == (2, 2)
    assert batch.ledger.balances


names = st.sampled_from(["a", "b", "c"])
frames = st.lists(
    st.tuples(
        st.lists(st.tuples(some, names), max_size=4),
        st.sampled_from([2**53, 2**53, 2**53, NOW - 1]),
    ),
    max_size=8,
)


def records(drawn: list[tuple[list[tuple[Submission, str]], int]]) -> list[Record]:
    return [
        record(
            offset,
            *(msgspec.structs.replace(each, id=name) for each, name in members),
            answer_by=answer_by,
        )
        for offset, (members, answer_by) in enumerate(drawn)
    ]


@given(frames)
def test_the_ledger_balances_and_counts_every_submission(
    drawn: list[tuple[list[tuple[Submission, str]], int]],
) -> None:
    batch = WriteBatch(PartitionState(0))
    for number, each in enumerate(records(drawn)):
        reduce_frame(batch, each, PARTITIONS)
        assert batch.ledger.balances
        assert batch.ledger.read == sum(len(members) for members, _ in drawn[: number + 1])


@given(frames, st.data())
def test_a_replay_repairs_a_crash_between_rows_and_ledger(
    drawn: list[tuple[list[tuple[Submission, str]], int]], data: st.DataObject
) -> None:
    """Any subset of a batch's rows may have been written before the ledger was."""
    log = records(drawn)
    whole = WriteBatch(PartitionState(0))
    for each in log:
        reduce_frame(whole, each, PARTITIONS)

    flushed = data.draw(st.integers(0, len(log)))
    crashed = WriteBatch(PartitionState(0))
    for each in log[:flushed]:
        reduce_frame(crashed, each, PARTITIONS)
    crashed.commit()
    batch = WriteBatch(crashed.state)
    for each in log[flushed:]:
        reduce_frame(batch, each, PARTITIONS)

    restarted = PartitionState(0)
    restarted.ledger = msgspec.structs.replace(crashed.state.ledger)
    restarted.rows |= crashed.state.rows
    written = data.draw(st.sets(st.sampled_from(["a", "b", "c"])))
    for name in written:
        key = entity_key("client", name)
        if key in batch.changes:
            value = batch.changes[key]
            assert isinstance(value, bytes)
            restarted.rows[key] = value

    replay = WriteBatch(restarted)
    for each in log:
        reduce_frame(replay, each, PARTITIONS)
    replay.commit()
    whole.commit()
    assert restarted.rows == whole.state.rows
    assert restarted.ledger.balances
    assert restarted.ledger.read == whole.ledger.read


def test_submissions_that_make_a_row_too_large_are_dead_letters() -> None:
    def labelled(name: str, size: int) -> Submission:
        return Submission("client", "a", 1, {name: "x" * size})

    batch = WriteBatch(PartitionState(0))
    reduce_frame(batch, record(0, labelled("first", 300_000), client("b", a=1)), PARTITIONS)
    reduce_frame(batch, record(1, client("b", a=2), labelled("second", 300_000)), PARTITIONS)
    reduce_frame(batch, record(2, labelled("third", 10)), PARTITIONS)
    row = batch.row(b"client:a")
    assert row is not None
    assert row.labels.keys() == {"first", "third"}
    other = batch.row(b"client:b")
    assert other is not None
    assert other.metrics == {"a": 2}
    (letter,) = batch.dead_letters
    assert (letter.record.offset, letter.index) == (1, 1)
    assert letter.reason.startswith("the row of client:a would have 600")
    assert (batch.ledger.applied, batch.ledger.dead_lettered) == (4, 1)
    assert batch.ledger.balances
