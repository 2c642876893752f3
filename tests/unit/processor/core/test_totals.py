"""Totals: whatever is killed, each growth is added once, and no total decreases."""

from collections import defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.anomaly import Reason
from contract.entity import partition_of
from contract.frame import Submission, encode_frame
from contract.kinds import BYTES_PER_SECOND, CLIENT, OTHER_GROUP
from contract.ledger import decode_ledger_row
from contract.row import EntityRow, RowVersionError, decode_entity_row
from contract.total import (
    TOTAL_VERSION,
    Group,
    TotalRow,
    decode_total,
    encode_total,
    is_total_key,
    total_key,
)
from processor.core import write_batch
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.row_reducer import reduce_row
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from tests.fuzz import seeds

NOW = 1_700_000_000_000
RECORD_BATCH = 1_200
NATIVE: Group = ("native", "false")

small_record_batches = pytest.mark.usefixtures("_small_record_batches")


@pytest.fixture
def _small_record_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_batch, "RECORD_BATCH_BYTES", RECORD_BATCH)


def client(
    id: str = "a",
    *,
    incarnation: int = 1,
    labels: dict[str, str] | None = None,
    timestamp: float | None = None,
    removed: bool = False,
    **metrics: int | float,
) -> Submission:
    return Submission(
        "client",
        id,
        incarnation,
        {} if removed else {"type": "native", "headless": "false"} | (labels or {}),
        {},
        {} if removed else metrics,
        timestamp,
        removed,
    )


def record(
    offset: int, *members: Submission, appended: int | None = None, partition: int = 0
) -> Record:
    time = NOW + 10_000 * offset if appended is None else appended
    return Record(partition, offset, time, encode_frame(2**53, members), epoch=1, topic="a" * 32)


def reduced(
    state: PartitionState, records: Iterable[Record], partitions: int = 1, per_batch: int = 1
) -> WriteBatch:
    log = [*records]
    batch = WriteBatch(state)
    for start in range(0, len(log), per_batch):
        batch = WriteBatch(state)
        for each in log[start : start + per_batch]:
            reduce_frame(batch, each, partitions)
        batch.commit()
    return batch


def totals(*states: PartitionState) -> dict[Group, dict[str, int | float]]:
    """Totals of all partitions, added up."""
    found: dict[Group, dict[str, int | float]] = {}
    for state in states:
        for key in state.total_keys:
            row = decode_total(state.rows[key])
            assert key == total_key(state.partition, row.kind, row.group)
            held = found.setdefault(row.group, {})
            for field, value in row.values.items():
                held[field] = held.get(field, 0) + value
    return found


def of_one(*members: Submission, seconds: int = 10) -> dict[Group, dict[str, int | float]]:
    """Totals after submissions of one frame each, `apart` seconds apart."""
    state = PartitionState(0)
    log = [record(n, each, appended=NOW + 1_000 * seconds * n) for n, each in enumerate(members)]
    reduced(state, log)
    return totals(state)


def test_growth_is_added_from_the_second_report_on() -> None:
    assert of_one(client(bytes_sent=100)) == {}
    assert of_one(client(bytes_sent=100), client(bytes_sent=130)) == {NATIVE: {"bytes_sent": 30}}


def test_a_counter_that_fell_has_started_again() -> None:
    assert of_one(client(bytes_sent=100), client(bytes_sent=7)) == {NATIVE: {"bytes_sent": 7}}


def test_what_a_report_leaves_out_is_added_by_the_next_that_has_it() -> None:
    sent = (client(bytes_sent=100), client(packets_sent=1), client(bytes_sent=150))
    assert of_one(*sent) == {NATIVE: {"bytes_sent": 50}}


def test_a_gauge_is_no_total() -> None:
    assert of_one(client(connection_uptime=1.0), client(connection_uptime=9.0)) == {}


def test_a_changed_label_adds_to_the_new_group() -> None:
    found = of_one(
        client(bytes_sent=1),
        client(bytes_sent=5),
        client(bytes_sent=20, labels={"headless": "true"}),
    )
    assert found == {NATIVE: {"bytes_sent": 4}, ("native", "true"): {"bytes_sent": 15}}


def test_a_stale_report_adds_nothing_and_loses_nothing() -> None:
    now = NOW / 1000
    found = of_one(
        client(bytes_sent=100, timestamp=now),
        client(bytes_sent=50, timestamp=now - 60),
        client(bytes_sent=120, timestamp=now + 20),
    )
    assert found == {NATIVE: {"bytes_sent": 20}}


def test_a_late_frame_adds_nothing() -> None:
    state = PartitionState(0)
    late = Record(0, 1, NOW, encode_frame(NOW - 1, [client(bytes_sent=9)]))
    reduced(state, [record(0, client(bytes_sent=1)), late])
    assert totals(state) == {}


@pytest.mark.parametrize("gone", [client(removed=True), client(incarnation=2, bytes_sent=500)])
def test_a_new_registration_begins_anew(gone: Submission) -> None:
    after = client(incarnation=2, bytes_sent=700)
    found = of_one(client(bytes_sent=100), gone, after)
    assert found == ({} if gone.removed else {NATIVE: {"bytes_sent": 200}})


def test_a_backlog_that_comes_at_once_is_added_by_its_own_times() -> None:
    most = int(BYTES_PER_SECOND)
    backlog = [
        client(bytes_sent=most * 50 * n, timestamp=NOW / 1000 - 600 + 60 * n) for n in range(5)
    ]
    state = PartitionState(0)
    reduced(state, [record(n, each, appended=NOW) for n, each in enumerate(backlog)])
    assert totals(state) == {NATIVE: {"bytes_sent": most * 200}}


@pytest.mark.parametrize(
    ("before", "after"), [(0, 10**12), (2 * 10**12, 10**12)], ids=["jump", "reset"]
)
def test_more_than_a_link_carries_adds_nothing_and_is_an_anomaly(before: int, after: int) -> None:
    state = PartitionState(0)
    reduced(state, [record(0, client(bytes_sent=before))])
    state.histories.clear()  # another worker continues, which has not seen this entity yet
    batch = reduced(state, [record(1, client(bytes_sent=after, packets_sent=1))])
    assert totals(state) == {}
    assert batch.anomaly_counts == {("client", Reason.RATE): 1}
    assert batch.anomalies[0].detail == "bytes_sent grew by 1e+12 in 10 s"
    batch = reduced(state, [record(2, client(bytes_sent=after + 3))])
    assert totals(state) == {NATIVE: {"bytes_sent": 3}}


def test_an_excess_counts_as_one_anomaly() -> None:
    state = PartitionState(0)
    batch = reduced(state, [record(n, client(bytes_sent=n * 10**13)) for n in range(2)])
    assert batch.anomaly_counts == {("client", Reason.RATE): 1}


@pytest.mark.parametrize("value", [-5, 10**400])
def test_no_number_stops_the_fold(value: int) -> None:
    batch = WriteBatch(PartitionState(0))
    for offset, each in enumerate((value, 3, value, 4)):
        reduce_frame(batch, record(offset, client(bytes_sent=each)), 1)
    batch.commit()
    values = totals(batch.state).get(NATIVE, {"bytes_sent": 0})
    assert 0 <= values["bytes_sent"] < 20


def test_there_is_a_bound_of_groups() -> None:
    state = PartitionState(0)
    number = CLIENT.max_groups + 3
    for value in (1, 11):
        frame = [client(f"c{n}", labels={"type": f"t{n}"}, bytes_sent=value) for n in range(number)]
        reduced(state, [record(state.ledger.offset + 1, *frame)])
    found = totals(state)
    assert found.pop((OTHER_GROUP, OTHER_GROUP)) == {"bytes_sent": 30}
    assert found == {(f"t{n}", "false"): {"bytes_sent": 10} for n in range(CLIENT.max_groups)}


def test_what_a_newer_worker_has_written_is_left_alone() -> None:
    state = PartitionState(0)
    reduced(state, [record(n, client(bytes_sent=n)) for n in range(2)])
    [key] = state.total_keys
    newer = state.rows[key].replace(b'"version":4', b'"version":5')
    state.rows[key] = newer
    with pytest.raises(RowVersionError):
        decode_total(newer)
    batch = reduced(state, [record(2, client(bytes_sent=7))])
    assert state.rows[key] == newer
    assert (batch.dead_letters, state.ledger.applied) == ([], 3)


def test_a_total_that_nobody_can_read_begins_at_0() -> None:
    state = PartitionState(0)
    reduced(state, [record(n, client(bytes_sent=n)) for n in range(2)])
    [key] = state.total_keys
    state.rows[key] = b"rubbish"
    reduced(state, [record(2, client(bytes_sent=7))])
    assert totals(state) == {NATIVE: {"bytes_sent": 6}}


def test_a_row_that_is_too_large_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_batch, "MAX_ROW_BYTES", 300)
    state = PartitionState(0)
    reduced(state, [record(0, client("a", bytes_sent=0), client("b", bytes_sent=0))])
    large = client("a", labels={"name": "x" * 300}, bytes_sent=5)
    batch = reduced(state, [record(1, large, client("b", bytes_sent=9))])
    assert len(batch.dead_letters) == 1
    assert totals(state) == {NATIVE: {"bytes_sent": 9}}
    alone = reduced(state, [record(2, large)])
    assert len(alone.dead_letters) == 1
    assert totals(state) == {NATIVE: {"bytes_sent": 9}}


def test_a_group_with_long_names_is_among_the_others() -> None:
    """Its name is in the key and in the value of its total, which must fit a record."""
    state = PartitionState(0)
    members = [client("a", labels={"type": "x" * 300_000}, bytes_sent=n) for n in range(3)]
    reduced(state, [record(n, each) for n, each in enumerate(members)])
    assert totals(state) == {(OTHER_GROUP, OTHER_GROUP): {"bytes_sent": 2}}


@small_record_batches
@pytest.mark.parametrize("padding", range(0, 700, 20))
def test_rows_their_totals_and_the_ledger_are_one_record_batch(padding: int) -> None:
    """Otherwise a worker that is killed between two of them would lose growth."""
    state = PartitionState(0)
    reduced(state, [record(0, client("a", bytes_sent=0), client("b", bytes_sent=0))])
    members = [client(id, labels={"name": "x" * (padding // 2)}, bytes_sent=5) for id in "ab"]
    batch = WriteBatch(state)
    reduce_frame(batch, record(1, *members), 1)
    for written in batch.record_batches():
        *_, (key, _, _) = written
        assert key == state.ledger_key
        assert any(is_total_key(key) for key, _, _ in written)


def test_no_two_seeds_of_the_fuzzers_stop_the_fold_together() -> None:
    """The fuzz target has one frame per state; here the frames share a state."""
    frames = [*seeds.frames(), *seeds.large_frames()]
    state = PartitionState(0)
    log = [Record(0, n, NOW + 1_000 * n, frame) for n, frame in enumerate([*frames, *frames])]
    reduced(state, log)
    assert state.ledger.offset == len(log) - 1
    assert state.ledger.balances


@pytest.mark.parametrize("clock", [1e300, -1e300, 1e308, -1e308])
def test_no_timestamp_lets_an_absurd_growth_count(clock: float) -> None:
    state = PartitionState(0)
    members = [client("a", timestamp=-clock, bytes_sent=0), client("b", bytes_sent=0.5)]
    grown = [client("a", timestamp=clock, bytes_sent=10**305), client("b", bytes_sent=2.5)]
    reduced(state, [record(0, *members), record(1, *grown)])
    assert totals(state)[NATIVE]["bytes_sent"] == 2


def test_an_older_program_cannot_read_a_total_as_a_row() -> None:
    value = encode_total(TotalRow(TOTAL_VERSION, 3, 1, "client", NATIVE, NOW, {"bytes_sent": 1}))
    with pytest.raises(RowVersionError):
        decode_entity_row(value)


reports = st.builds(
    client,
    st.sampled_from(["a", "b", "c", "d"]),
    incarnation=st.sampled_from([1, 1, 1, 1, 2]),
    labels=st.sampled_from([{}, {}, {"headless": "true"}, {"type": "docker"}]),
    timestamp=st.none() | st.floats(NOW / 1000 - 40, NOW / 1000 + 200),
    removed=st.sampled_from([False] * 9 + [True]),
    bytes_sent=st.integers(0, 10**12),
    packets_sent=st.integers(0, 1000),
)
frames = st.lists(st.lists(reports, max_size=8), max_size=12)


def recounted(log: list[list[Submission]]) -> dict[Group, dict[str, int | float]]:
    """Totals by the rule itself, entity by entity."""
    rows: dict[str, EntityRow] = {}
    found: dict[Group, dict[str, int | float]] = defaultdict(lambda: defaultdict(int))
    for offset, members in enumerate(log):
        appended = NOW + 10_000 * offset
        for index, each in enumerate(members):
            before = rows.get(each.id)
            after, _ = reduce_row(before, each, (offset, index), appended)
            assert after is not None
            rows[each.id] = after
            if before is None or after is before or before.removed or after.removed:
                continue
            if before.incarnation != after.incarnation:
                continue
            apart = (appended - before.last_appended_ms) / 1000
            checked_in = appended / 1000 if each.timestamp is None else each.timestamp
            apart = max(apart, checked_in - before.last_check_in)
            for field, most in (("bytes_sent", 12.5e9), ("packets_sent", 150e6)):
                if field in each.metrics and field in before.metrics:
                    growth = each.metrics[field] - before.metrics[field]
                    if growth < 0:
                        growth = each.metrics[field]
                    if 0 < growth <= most * max(apart, 1.0):
                        found[after.labels["type"], after.labels["headless"]][field] += growth
    return {group: dict(values) for group, values in found.items()}


@given(frames, st.integers(1, 5))
def test_totals_are_those_of_a_recount(log: list[list[Submission]], per_batch: int) -> None:
    state = PartitionState(0)
    if log:
        reduced(state, [record(n, *each) for n, each in enumerate(log)], per_batch=per_batch)
    assert totals(state) == recounted(log)


@given(frames)
def test_partitions_add_up_to_what_one_has(log: list[list[Submission]]) -> None:
    states = [PartitionState(p) for p in range(3)]
    for state in states:
        for n, members in enumerate(log):
            own = [
                e for e in members if partition_of(f"client:{e.id}".encode(), 3) == state.partition
            ]
            reduced(state, [record(n, *own, partition=state.partition)], partitions=3)
    assert totals(*states) == recounted(log)


@small_record_batches
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(frames, st.data())
def test_a_worker_that_is_killed_after_any_record_batch_adds_everything_once(
    log: list[list[Submission]], data: st.DataObject
) -> None:
    records = [record(n, *each) for n, each in enumerate(log)]
    batch = WriteBatch(PartitionState(0))
    for each in records:
        reduce_frame(batch, each, 1)
    batches = [*batch.record_batches()]
    restarted = PartitionState(0)
    newest: dict[bytes, TotalRow] = {}
    for written in batches[: data.draw(st.integers(0, len(batches)))]:
        *_, (_, ledger, _) = written
        assert ledger is not None
        for key, value, headers in written:
            restarted.apply(key, value, headers)
            if is_total_key(key) and value is not None:
                row, before = decode_total(value), newest.get(key)
                if before is not None:
                    assert row.position > before.position
                    assert all(row.values[field] >= was for field, was in before.values.items())
                counted = decode_ledger_row(ledger)
                cut = counted.cut.count if counted.cut is not None else 0
                assert row.position < (counted.offset + 1, cut)
                newest[key] = row
    restarted.finish_loading(0)
    reduced(restarted, records[restarted.ledger.next_offset :])
    assert totals(restarted) == recounted(log)
