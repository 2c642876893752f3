"""The result of a comparison is applied only to the state that was compared, and without waiting
for Kafka under the lock."""

import asyncio
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry

from contract.history import NOT_A_RECORD, SourceMark
from contract.ledger import LedgerRow
from processor.core.partition_state import PartitionState
from processor.core.source_history import Finding, SourceLogState, compare_ledger
from processor.core.write_batch import WriteBatch
from processor.metrics import ProcessorMetrics
from processor.source import source_check as module
from processor.source.source_check import SourceCheck
from service.kafka.aiokafka_compat.topic_details import Leader, TopicDetails

TOPIC = "a" * 32
GONE = Leader(-1, 3)


def a_state(partition: int) -> PartitionState:
    state = PartitionState(partition)
    mark = SourceMark(9, 2, 1000, TOPIC)
    state.ledger = LedgerRow(version=1, offset=9, mark=mark, newest=1000)
    state.finish_loading(1)
    state.resume_from_source(TOPIC, 2)
    return state


def log_state(**values: Any) -> SourceLogState:
    found: dict[str, Any] = {
        "topic": TOPIC,
        "first": 0,
        "end": 20,
        "leader_epoch": 4,
        "epoch": 2,
        "epoch_end": 20,
        "marked": 1000,
    }
    return SourceLogState(**found | values)


CUT = log_state(end=7, epoch_end=7, marked=None)
OLDER_COPY = log_state(epoch=-1, epoch_end=-1, marked=None)


class Setup:
    """A check of two partitions that records its effects."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = asyncio.Lock()
        self.partitions = {0: a_state(0), 1: a_state(1)}
        self.events: list[str] = []
        self.log_state: dict[int, SourceLogState] = {0: log_state(), 1: log_state()}
        self.leaders = {0: Leader(1, 2), 1: Leader(1, 2)}
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.asking = asyncio.Event()
        self.store = self
        self.settings = SimpleNamespace(kafka_partitions=2)
        monkeypatch.setattr(module, "compare", self._compare)
        monkeypatch.setattr(module, "SourceReader", lambda *_: self)
        self.check = SourceCheck(
            cast(Any, self),
            "submissions",
            lambda partition, offset, _: self.events.append(f"announce {partition} at {offset}"),
            lambda partition: self.events.append(f"resume {partition}"),
            ProcessorMetrics(CollectorRegistry()),
        )
        self.check._stopped_at = float("inf")

    async def __aenter__(self) -> "Setup":
        if not self.log_state:
            raise KafkaConnectionError
        return self

    async def __aexit__(self, *_: Any) -> None:
        pass

    async def describe(self) -> TopicDetails:
        return TopicDetails(TOPIC, self.leaders)

    def is_owned(self, partition: int, state: PartitionState) -> bool:
        return self.partitions.get(partition) is state

    async def flush(self, batches: Mapping[int, WriteBatch]) -> None:
        assert self.lock.locked()
        for partition, batch in batches.items():
            batch.commit()
            self.events.append(f"flush {partition}")

    async def rewrite_regressed(self, partitions: Iterable[int]) -> None:
        assert self.lock.locked()

    async def _compare(self, _: Any, states: Mapping[int, PartitionState]) -> dict[int, Finding]:
        ledgers = {p: state.ledger for p, state in states.items() if p in self.log_state}
        self.asking.set()
        await self.proceed.wait()
        return {
            p: Finding(ledger, self.log_state[p], compare_ledger(ledger, self.log_state[p]))
            for p, ledger in ledgers.items()
        }

    async def watch(self) -> None:
        await self.check._watch(cast(Any, self))

    async def load(self) -> None:
        async with self.lock:
            await self.check.check_loaded()


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch)


async def test_nothing_is_compared_without_a_change(setup: Setup) -> None:
    await setup.watch()
    assert not setup.asking.is_set()


async def test_a_new_history_begins_and_the_partition_is_sought(setup: Setup) -> None:
    setup.leaders[0] = Leader(1, 4)
    setup.log_state[0] = CUT
    await setup.watch()
    assert setup.events == ["flush 0", "resume 0"]
    assert setup.partitions[0].ledger.next_offset == 7


async def test_the_lock_is_free_while_kafka_is_queried(setup: Setup) -> None:
    setup.leaders[0] = Leader(1, 4)
    setup.proceed.clear()
    watching = asyncio.create_task(setup.watch())
    await setup.asking.wait()
    assert not setup.lock.locked()
    setup.proceed.set()
    await watching
    assert setup.partitions[0].source_epoch == 4


@pytest.mark.parametrize("what", ["ledger", "state", "not loaded"])
async def test_a_state_that_changed_during_the_comparison_is_compared_again(
    setup: Setup, what: str
) -> None:
    setup.leaders[0] = Leader(1, 4)
    setup.log_state[0] = CUT
    setup.proceed.clear()
    watching = asyncio.create_task(setup.watch())
    await setup.asking.wait()
    if what == "ledger":
        setup.partitions[0].ledger = LedgerRow(version=1, offset=10)
    elif what == "state":
        setup.partitions[0] = a_state(0)
    else:  # taken over: the load compares it
        setup.partitions[0].loaded = False
    setup.proceed.set()
    await watching
    assert setup.events == []
    assert setup.partitions[0].ledger.parted == 0


async def test_a_partition_without_a_leader_is_not_compared(setup: Setup) -> None:
    """KRaft increments the epoch of a partition that loses its leader."""
    setup.leaders = {0: GONE, 1: Leader(1, 4)}
    await setup.watch()
    assert (setup.partitions[0].source_epoch, setup.partitions[1].source_epoch) == (2, 4)
    assert setup.partitions[0].loaded


async def test_a_load_leaves_out_partitions_with_incomplete_information(setup: Setup) -> None:
    del setup.log_state[0]
    await setup.load()
    assert (setup.partitions[0].loaded, setup.partitions[1].loaded) == (False, True)
    assert setup.partitions[0].awaits_source
    setup.log_state[0] = log_state(first=12)
    await setup.watch()
    assert setup.events == ["flush 0", "resume 0"]
    state = setup.partitions[0]
    assert state.loaded
    assert (state.ledger.lost, state.ledger.next_offset) == (2, 12)
    assert state.ledger.mark == SourceMark(11, 4, NOT_A_RECORD, TOPIC)


async def test_a_load_during_an_outage_leaves_out_all_partitions(setup: Setup) -> None:
    setup.log_state.clear()
    await setup.load()
    assert not any(state.loaded for state in setup.partitions.values())


async def test_a_requested_comparison_resumes_the_partition(setup: Setup) -> None:
    setup.check.request({1})
    await setup.watch()
    assert setup.events == ["resume 1"]
    await setup.watch()
    assert setup.events == ["resume 1"]


async def test_a_failed_comparison_is_repeated(setup: Setup) -> None:
    setup.check.request({1})
    found = setup.log_state.pop(1)
    await setup.watch()
    assert setup.events == []
    setup.log_state[1] = found
    await setup.watch()
    assert setup.events == ["resume 1"]


async def test_an_uncertain_source_stops_the_partition_and_is_announced(setup: Setup) -> None:
    setup.check.request({0})
    setup.log_state[0] = OLDER_COPY
    await setup.watch()
    assert setup.events == ["announce 0 at 10"]
    assert not setup.partitions[0].loaded
    assert setup.partitions[1].loaded
