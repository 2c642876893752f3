"""Batches are flushed before they are acknowledged, and foreign events are dropped."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from contract.anomaly import Anomaly
from contract.evidence import EvidenceReason
from contract.frame import Submission, encode_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import DeadLetter
from processor.core.write_batch import WriteBatch
from processor.faust_compat.poll import Poll
from processor.metrics import ProcessorMetrics
from processor.runtime.agent import Agent
from processor.source.gap_check import Ahead

CURRENT, OLD = 2, 1
AHEAD_EPOCH = 3


class FakeTable:
    """A table that records the order of events."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.store = SimpleNamespace(partitions={0: PartitionState(0)})
        self.settings = SimpleNamespace(kafka_partitions=1)
        self.changelog = self
        self.lock = asyncio.Lock()
        self.on_flush: Callable[[], None] = lambda: None

    def is_owned(self, partition: int, state: PartitionState) -> bool:
        return self.store.partitions.get(partition) is state

    async def flush(self, batches: dict[int, WriteBatch]) -> None:
        self.on_flush()
        for batch in batches.values():
            batch.commit()
            self.events.append(f"flush up to {batch.ledger.offset}")

    def release_partitions(self) -> None:
        self.store.partitions.clear()

    async def write_dead_letters(self, letters: list[DeadLetter]) -> None:
        self.events.append(f"{len(letters)} dead letters")


class AsyncEvents:
    """A channel without a reader."""

    def __aiter__(self) -> "AsyncEvents":
        return self

    async def __anext__(self) -> Any:
        raise StopAsyncIteration


class Stream:
    def __init__(self, table: FakeTable) -> None:
        self._table = table

    def add_processor(self, processor: Callable[[Any], Awaitable[Any]]) -> None:
        self._processor = processor

    channel = AsyncEvents()

    def _enable_passive(self, events: AsyncIterator[Any]) -> None:
        self._drainer = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        for each in (event(0), event(1)):
            self.current_event = each
            await self._processor(each.message.value)

    async def ack(self, event: Any) -> None:
        self._table.events.append(f"ack {event.message.offset}")


class FakeAssignment:
    generation = CURRENT

    def is_current(self, event: Any) -> bool:
        return bool(event.message.generation_id == self.generation)


class FakeAnomalyProducer:
    """An anomaly producer that records events."""

    def __init__(self, table: FakeTable) -> None:
        self._table = table

    def enqueue(self, anomalies: list[Anomaly]) -> None:
        if anomalies:
            self._table.events.append(f"{len(anomalies)} anomalies")


class FakeEvidenceLog:
    """An evidence log that records events."""

    def __init__(self, table: FakeTable) -> None:
        self._table = table

    def note(self, kind: str, id: str, reason: EvidenceReason, **details: Any) -> None:
        self._table.events.append(f"{kind} {id} {reason.value} {details['receipt']}")


class FakePauser:
    """A pauser with a fixed set of partitions."""

    def __init__(self) -> None:
        self.letters = 0
        self.awaiting: list[int] = []
        self.allowed = 10**9
        self.sought = 0

    def should_process(self, partition: int, offset: int) -> bool:
        return self.letters < self.allowed and offset >= self.sought

    def count_dead_letters(self, partition: int, letters: int) -> None:
        self.letters += letters

    def await_source(self, partition: int) -> None:
        self.awaiting.append(partition)


class FakeSourceCheck:
    """A source check that records requests."""

    def __init__(self, table: FakeTable) -> None:
        self._table = table

    def request(self, partitions: set[int]) -> None:
        self._table.events.append(f"compare {sorted(partitions)}")


class AlwaysFresh:
    async def wait_until_fresh(self) -> None:
        pass


def record(offset: int, value: bytes | None = None, epoch: int | None = None) -> ConsumerRecord:
    frame = encode_frame(2**53, [Submission("client", "a", 1, metrics={"n": offset})])
    value = frame if value is None else value
    return ConsumerRecord(
        *("submissions", 0, offset, 1_700_000_000_000, 1, None, value, epoch, -1, len(value), ())
    )


def event(
    offset: int, generation: int = CURRENT, value: bytes | None = None, epoch: int | None = None
) -> Any:
    return poll(record(offset, value, epoch), generation=generation)


def poll(*records: ConsumerRecord, generation: int = CURRENT) -> Any:
    """Return an event of some records."""
    message = SimpleNamespace(
        partition=0,
        offset=records[-1].offset,
        timestamp=1.7e9,
        value=Poll.of(records),
        generation_id=generation,
    )
    return SimpleNamespace(message=message)


@pytest.fixture
def table() -> FakeTable:
    return FakeTable()


@pytest.fixture
def assignment() -> FakeAssignment:
    return FakeAssignment()


def an_agent(
    table: FakeTable, assignment: FakeAssignment, pauser: FakePauser | None = None
) -> Agent:
    async def look_ahead(partition: int, offset: int) -> Ahead:
        return Ahead(0, 2, 2, "t", AHEAD_EPOCH)

    metrics = ProcessorMetrics(CollectorRegistry())
    pauser = pauser or FakePauser()
    source = FakeSourceCheck(table)
    parts = (
        table,
        assignment,
        AlwaysFresh(),
        look_ahead,
        pauser,
        source,
        FakeAnomalyProducer(table),
        FakeEvidenceLog(table),
        metrics,
    )
    return Agent(*cast(Any, parts))


async def process(table: FakeTable, assignment: FakeAssignment, *events: Any) -> list[str]:
    await an_agent(table, assignment)._process_batch(cast(Any, Stream(table)), events)
    return table.events


async def test_events_are_flushed_then_acknowledged_in_order(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    happened = await process(table, assignment, event(0), event(1))
    assert happened == ["flush up to 1", "ack 0", "ack 1"]


async def test_dead_letters_are_written_before_the_ledger_counts_them(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    happened = await process(table, assignment, event(0), event(1, value=b"rubbish"))
    assert happened == ["1 dead letters", "flush up to 1", "ack 0", "ack 1"]


async def test_events_after_the_limit_are_neither_reduced_nor_acknowledged(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    pauser = FakePauser()
    pauser.allowed = 1
    events = [event(0), event(1, value=b"rubbish"), event(2), event(3, value=b"rubbish")]
    agent = an_agent(table, assignment, pauser)
    await agent._process_batch(cast(Any, Stream(table)), events)
    assert table.events == ["1 dead letters", "flush up to 1", "ack 0", "ack 1"]
    assert pauser.letters == 1


async def test_a_failed_flush_acknowledges_nothing(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    def fail() -> None:
        raise TimeoutError

    table.on_flush = fail
    with pytest.raises(TimeoutError):
        await process(table, assignment, event(0))
    assert table.events == []


async def test_events_of_an_older_generation_are_dropped_unacknowledged(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    assert await process(table, assignment, event(0, OLD), event(1, OLD)) == []


async def test_a_covered_event_is_compared_with_the_source_and_changes_nothing(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    await process(table, assignment, event(0))
    before = dict(table.store.partitions[0].rows)
    table.events.clear()
    assert await process(table, assignment, event(0), event(1)) == ["flush up to 0", "compare [0]"]
    assert table.store.partitions[0].rows == before


async def test_a_record_of_another_leader_epoch_waits_for_the_comparison(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    table.store.partitions[0].source_epoch = 3
    events = [event(0, epoch=2), event(1, epoch=3), event(2, epoch=5), event(3, epoch=5)]
    happened = await process(table, assignment, *events)
    assert happened == ["flush up to 1", "ack 0", "ack 1", "compare [0]"]


async def test_a_partition_lost_during_the_flush_is_not_acknowledged(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    def rebalance() -> None:
        assignment.generation = CURRENT + 1

    table.on_flush = rebalance
    assert await process(table, assignment, event(0)) == ["flush up to 0"]


async def test_a_stop_during_a_batch_leaves_nothing_to_write(
    table: FakeTable, assignment: FakeAssignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expiry run that waits for the lock must not write a ledger without its rows."""
    monkeypatch.setattr(
        "processor.runtime.agent.YIELD_INTERVAL", -1.0
    )  # other tasks run after each frame
    state = table.store.partitions[0]
    running = asyncio.create_task(an_agent(table, assignment).run(cast(Any, Stream(table))))
    async with asyncio.timeout(5):
        while not table.lock.locked():  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (state.rows, state.ledger.offset) == ({}, -1)
    assert table.store.partitions == {}
    assert table.events == []


async def test_a_gap_is_skipped_only_in_the_log_that_was_compared(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    assert await process(table, assignment, event(2)) == ["flush up to -1", "compare [0]"]
    state = table.store.partitions[0]
    table.events.clear()
    state.source_topic, state.source_epoch = "t", AHEAD_EPOCH
    assert await process(table, assignment, event(2)) == ["flush up to 2", "ack 2"]


async def test_all_records_of_a_poll_are_reduced_and_acknowledged_as_one(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    happened = await process(table, assignment, poll(record(0), record(1)), poll(record(2)))
    assert happened == ["flush up to 2", "ack 1", "ack 2"]


async def test_a_partly_reduced_poll_is_not_acknowledged(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    pauser = FakePauser()
    pauser.allowed = 1
    agent = an_agent(table, assignment, pauser)
    events = [poll(record(0), record(1, value=b"rubbish"), record(2)), poll(record(3))]
    await agent._process_batch(cast(Any, Stream(table)), events)
    assert table.events == ["1 dead letters", "flush up to 1"]


async def test_records_before_the_sought_one_are_dropped_from_its_poll(
    table: FakeTable, assignment: FakeAssignment
) -> None:
    """Records fetched before a seek may be in one poll with the sought one."""
    await process(table, assignment, poll(record(0), record(1)))
    table.events.clear()
    pauser = FakePauser()
    pauser.sought = 2
    agent = an_agent(table, assignment, pauser)
    await agent._process_batch(cast(Any, Stream(table)), [poll(record(1), record(2), record(3))])
    assert table.events == ["flush up to 3", "ack 3"]
