"""Record batches are appended whole, and each counts exactly the rows that it includes."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.frame import Submission, encode_frame
from contract.ledger import decode_ledger_row, ledger_key
from contract.position import Position
from processor.core import write_batch
from processor.core.frame_reducer import reduce_frame
from processor.core.lost_cut import begin_after_cut, is_cut_lost
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import NO_HEADERS, RecordBatch, Tombstone, WriteBatch, split
from tests.unit.processor.core.test_row_reducer import some

NOW = 1_700_000_000_000
TOPIC = "a" * 32
SMALL = 700
"""Size of a record batch in these tests in bytes: two or three rows."""

small_record_batches = pytest.mark.usefixtures("_small_record_batches")


@pytest.fixture
def _small_record_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_batch, "RECORD_BATCH_BYTES", SMALL)


def record(offset: int, submissions: Iterable[Submission], epoch: int = 1) -> Record:
    value = encode_frame(2**53, list(submissions))
    return Record(0, offset, NOW + offset, value, epoch=epoch, topic=TOPIC)


def client(number: int, **metrics: int) -> Submission:
    return Submission("client", f"c{number}", 1, metrics=dict(metrics))


def reduced(state: PartitionState, records: Iterable[Record]) -> WriteBatch:
    batch = WriteBatch(state)
    for each in records:
        reduce_frame(batch, each, partitions=1)
    return batch


def after(state: PartitionState, batches: Iterable[RecordBatch]) -> PartitionState:
    """Return what a worker loads if its predecessor is killed after these record batches."""
    loaded = PartitionState(0)
    loaded.rows = dict(state.rows)
    loaded.ledger = msgspec.structs.replace(state.ledger)
    for written in batches:
        for key, value, headers in written:
            loaded.apply(key, value, headers)
    loaded.finish_loading(0)
    return loaded


def size(written: RecordBatch) -> int:
    return sum(len(key) + len(value or b"") for key, value, _ in written if key != ledger_key(0))


names = st.sampled_from([f"c{n}" for n in range(12)])
frames = st.lists(
    st.lists(st.tuples(some, names), max_size=12).map(
        lambda drawn: [msgspec.structs.replace(each, id=name) for each, name in drawn]
    ),
    max_size=6,
)


@small_record_batches
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames, st.data())
def test_a_crash_after_any_record_batch_loses_nothing_and_counts_nothing_twice(
    drawn: list[list[Submission]], data: st.DataObject
) -> None:
    log = [record(offset, members) for offset, members in enumerate(drawn)]
    flushed = data.draw(st.integers(0, len(log)))
    state = PartitionState(0)
    reduced(state, log[:flushed]).commit()

    batch = reduced(state, log[flushed:])
    batches = [*batch.record_batches()]
    survived = data.draw(st.integers(0, len(batches)))
    restarted = after(state, batches[:survived])
    again = reduced(restarted, log[restarted.ledger.next_offset :])
    again.commit()

    whole = PartitionState(0)
    reduced(whole, log).commit()
    assert restarted.rows == whole.rows
    final = msgspec.structs.replace(restarted.ledger, version=whole.ledger.version)
    assert final == whole.ledger
    assert final.balances


@small_record_batches
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames)
def test_each_record_batch_ends_with_the_ledger_that_counts_exactly_its_rows(
    drawn: list[list[Submission]],
) -> None:
    log = [record(offset, members) for offset, members in enumerate(drawn)]
    state = PartitionState(0)
    batches = [*reduced(state, log).record_batches()]
    for number, written in enumerate(batches, 1):
        assert size(written) <= SMALL
        key, value, _ = written[-1]
        assert key == ledger_key(0)
        assert ledger_key(0) not in [key for key, _, _ in written[:-1]]
        assert value is not None
        ledger = decode_ledger_row(value)
        assert ledger.balances
        loaded = after(state, batches[:number])
        expected = PartitionState(0)
        counted = [Record(**vars(each)) for each in log[: ledger.offset + 1]]
        batch = reduced(expected, counted)
        if ledger.cut is not None:
            cut = record(ledger.offset + 1, drawn[ledger.offset + 1][: ledger.cut.count])
            reduce_frame(batch, cut, partitions=1)
        batch.commit()
        assert loaded.rows == expected.rows
        assert (ledger.read, ledger.applied) == (expected.ledger.read, expected.ledger.applied)


def test_a_usual_batch_is_one_record_batch() -> None:
    batch = reduced(PartitionState(0), [record(0, [client(n, a=1) for n in range(500)])])
    [written] = batch.record_batches()
    assert len(written) == 501


def test_a_frame_whose_rows_exceed_a_record_batch_is_cut() -> None:
    """A restored frame: no gateway writes one of several MiB."""
    wide = [
        Submission("client", f"c{n}", 1, {"x": "y" * 100_000}, metrics={"a": n}) for n in range(25)
    ]
    batch = reduced(PartitionState(0), [record(0, wide)])
    batches = [*batch.record_batches()]
    assert len(batches) > 2
    assert max(map(size, batches)) <= write_batch.RECORD_BATCH_BYTES
    cuts = [decode_ledger_row(written[-1][1] or b"").cut for written in batches]
    assert cuts[-1] is None
    assert [cut.count for cut in cuts[:-1] if cut] == [
        sum(map(len, batches[: number + 1])) - number - 1 for number in range(len(batches) - 1)
    ]
    batch.commit()
    assert len(batch.state.rows) == 25
    assert batch.state.ledger.applied == 25


@small_record_batches
def test_rows_without_a_submission_precede_the_ledger() -> None:
    state = PartitionState(0)
    tombstones = {b"client:c%d" % n: Tombstone(Position(n, 0)) for n in range(100)}
    batches = [*WriteBatch(state, {**tombstones}).record_batches()]
    assert len(batches) > 3
    keys = [key for written in batches for key, _, _ in written]
    assert keys == [*tombstones, ledger_key(0)]


def test_splitting_keeps_the_order_and_every_record() -> None:
    records = [(b"%d" % n, b"x" * n, NO_HEADERS) for n in range(3000)]
    batches = [*split(records)]
    assert [each for written in batches for each in written] == records
    assert len(batches) > 3


@small_record_batches
def test_a_lost_cut_record_starts_a_new_history() -> None:
    """The record now at its offset is new as a whole, although rows have changes of the
    lost one."""
    state = PartitionState(0)
    batches = [*reduced(state, [record(0, [client(n, a=1) for n in range(12)])]).record_batches()]
    restarted = after(state, batches[:1])
    cut = restarted.ledger.cut
    assert cut is not None

    same = record(0, [client(n, a=1) for n in range(12)])
    assert not is_cut_lost(restarted.ledger, same)
    other = record(0, [client(n, a=2) for n in range(12)], epoch=3)
    batch = WriteBatch(restarted)
    assert is_cut_lost(batch.ledger, other)
    moved = begin_after_cut(batch.ledger, other)
    assert (moved.offset, moved.source_offset) == (1, 0)
    reduce_frame(batch, moved, partitions=1)
    batch.commit()
    assert restarted.ledger.stale == 0
    assert restarted.ledger.read == restarted.ledger.applied == cut.count + 12
    assert restarted.ledger.next_offset == 1
    for n in range(12):
        row = WriteBatch(restarted).row(b"client:c%d" % n)
        assert row is not None
        assert row.metrics == {"a": 2}
