"""What becomes of a comparison: applied to what was compared, and asked for without the lock."""

import asyncio
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry

from contract.history import NOT_A_RECORD, SourceMark
from contract.row import LedgerRow
from processor.core.partition_state import PartitionState
from processor.core.source_history import Finding, SourceEvidence, judge
from processor.core.write_batch import WriteBatch
from processor.metrics import ProcessorMetrics
from processor.runtime import source_check as module
from processor.runtime.source_check import SourceCheck
from service.kafka.kafka_compat import Leader, TopicDetails

TOPIC = "a" * 32
GONE = Leader(-1, 3)


def a_state(partition: int) -> PartitionState:
    state = PartitionState(partition)
    mark = SourceMark(9, 2, 1000, TOPIC)
    state.ledger = LedgerRow(version=1, offset=9, mark=mark, newest=1000)
    state.finish_loading(1)
    state.go_on_from_source(TOPIC, 2)
    return state


def evidence(**values: Any) -> SourceEvidence:
    found: dict[str, Any] = {
        "topic": TOPIC,
        "first": 0,
        "end": 20,
        "leader_epoch": 4,
        "epoch": 2,
        "epoch_end": 20,
        "marked": 1000,
    }
    return SourceEvidence(**found | values)


CUT = evidence(end=7, epoch_end=7, marked=None)
OLDER_COPY = evidence(epoch=-1, epoch_end=-1, marked=None)


class Place:
    """A check of two partitions, and what it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = asyncio.Lock()
        self.partitions = {0: a_state(0), 1: a_state(1)}
        self.events: list[str] = []
        self.evidence: dict[int, SourceEvidence] = {0: evidence(), 1: evidence()}
        self.leaders = {0: Leader(1, 2), 1: Leader(1, 2)}
        self.meanwhile = asyncio.Event()
        self.meanwhile.set()
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

    async def __aenter__(self) -> "Place":
        if not self.evidence:
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

    async def write_stepped_back(self, partitions: Iterable[int]) -> None:
        assert self.lock.locked()

    async def _compare(self, _: Any, states: Mapping[int, PartitionState]) -> dict[int, Finding]:
        ledgers = {p: state.ledger for p, state in states.items() if p in self.evidence}
        self.asking.set()
        await self.meanwhile.wait()
        return {
            p: Finding(ledger, self.evidence[p], judge(ledger, self.evidence[p]))
            for p, ledger in ledgers.items()
        }

    async def watch(self) -> None:
        await self.check._watch(cast(Any, self))

    async def load(self) -> None:
        async with self.lock:
            await self.check.check_loaded()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


async def test_nothing_is_compared_where_nothing_has_changed(place: Place) -> None:
    await place.watch()
    assert not place.asking.is_set()


async def test_a_new_history_begins_and_is_sought(place: Place) -> None:
    place.leaders[0] = Leader(1, 4)
    place.evidence[0] = CUT
    await place.watch()
    assert place.events == ["flush 0", "resume 0"]
    assert place.partitions[0].ledger.next_offset == 7


async def test_the_lock_is_free_while_kafka_is_asked(place: Place) -> None:
    place.leaders[0] = Leader(1, 4)
    place.meanwhile.clear()
    watching = asyncio.create_task(place.watch())
    await place.asking.wait()
    assert not place.lock.locked()
    place.meanwhile.set()
    await watching
    assert place.partitions[0].source_epoch == 4


@pytest.mark.parametrize("what", ["ledger", "state", "not loaded"])
async def test_what_has_changed_meanwhile_is_compared_again(place: Place, what: str) -> None:
    place.leaders[0] = Leader(1, 4)
    place.evidence[0] = CUT
    place.meanwhile.clear()
    watching = asyncio.create_task(place.watch())
    await place.asking.wait()
    if what == "ledger":
        place.partitions[0].ledger = LedgerRow(version=1, offset=10)
    elif what == "state":
        place.partitions[0] = a_state(0)
    else:  # taken over: the load compares it
        place.partitions[0].loaded = False
    place.meanwhile.set()
    await watching
    assert place.events == []
    assert place.partitions[0].ledger.parted == 0


async def test_a_partition_without_a_leader_is_not_compared(place: Place) -> None:
    """KRaft raises its epoch when it loses its leader."""
    place.leaders = {0: GONE, 1: Leader(1, 4)}
    await place.watch()
    assert (place.partitions[0].source_epoch, place.partitions[1].source_epoch) == (2, 4)
    assert place.partitions[0].loaded


async def test_a_load_leaves_out_what_kafka_says_too_little_of(place: Place) -> None:
    del place.evidence[0]
    await place.load()
    assert (place.partitions[0].loaded, place.partitions[1].loaded) == (False, True)
    assert place.partitions[0].awaits_source
    place.evidence[0] = evidence(first=12)
    await place.watch()
    assert place.events == ["flush 0", "resume 0"]
    state = place.partitions[0]
    assert state.loaded
    assert (state.ledger.lost, state.ledger.next_offset) == (2, 12)
    assert state.ledger.mark == SourceMark(11, 4, NOT_A_RECORD, TOPIC)


async def test_a_load_while_kafka_is_away_leaves_out_all(place: Place) -> None:
    place.evidence.clear()
    await place.load()
    assert not any(state.loaded for state in place.partitions.values())


async def test_a_requested_comparison_resumes_the_partition(place: Place) -> None:
    place.check.request({1})
    await place.watch()
    assert place.events == ["resume 1"]
    await place.watch()
    assert place.events == ["resume 1"]


async def test_a_requested_comparison_that_fails_is_repeated(place: Place) -> None:
    place.check.request({1})
    found = place.evidence.pop(1)
    await place.watch()
    assert place.events == []
    place.evidence[1] = found
    await place.watch()
    assert place.events == ["resume 1"]


async def test_what_is_not_certain_stops_and_is_announced(place: Place) -> None:
    place.check.request({0})
    place.evidence[0] = OLDER_COPY
    await place.watch()
    assert place.events == ["announce 0 at 10"]
    assert not place.partitions[0].loaded
    assert place.partitions[1].loaded
