"""Paused partitions: which events are dropped, and where the partition resumes."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from processor.core.dead_letter_limit import DeadLetterLimit
from processor.core.partition_state import PartitionState
from processor.runtime.pauser import RESEEK_DELAY, PartitionPauser
from processor.source.gap_check import Ahead

P0 = TP("submissions", 0)


class Consumer:
    """The part of Faust's consumer that the pauser needs."""

    def __init__(self) -> None:
        self.paused: set[TP] = set()
        self.sought: list[dict[TP, int]] = []
        self.error: Exception | None = None

    def pause_partitions(self, tps: set[TP]) -> None:
        self.paused |= tps

    def resume_partitions(self, tps: set[TP]) -> None:
        self.paused -= tps

    async def rewind(self, tp: TP, offset: int) -> None:
        if self.error is not None:
            raise self.error
        self.sought.append({tp: offset})


class Setup:
    """A pauser with one partition whose ledger is at 9 and a limit of 10 letters a minute."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        self.app = SimpleNamespace(consumer=self.consumer, consumer_generation_id=1)
        self.state = PartitionState(0)
        self.state.loaded = True
        self.state.ledger.offset = 9
        self.owned: dict[int, PartitionState] = {0: self.state}
        self.first = 0
        self.record: int | None = None
        self.lock = asyncio.Lock()
        self.asked = asyncio.Event()
        table = SimpleNamespace(
            lock=self.lock, store=SimpleNamespace(owned=lambda p: self.owned.get(p))
        )

        async def look_ahead(partition: int, offset: int) -> Ahead:
            self.asked.set()
            return Ahead(self.first, self.record or max(self.first, offset), 100, "t", 0)

        self.now = 1000.0
        cap = DeadLetterLimit(10)
        parts = (self.app, table, "submissions", look_ahead, cap, lambda: self.now)
        self.pauser = PartitionPauser(*cast(Any, parts))


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_below_the_limit_every_event_is_processed(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 9)
    assert setup.pauser.should_process(0, 10)
    assert setup.pauser.paused == frozenset()
    assert setup.consumer.paused == set()


def test_above_the_limit_only_that_partition_is_paused(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 10)
    assert setup.pauser.paused == {0}
    assert not setup.pauser.should_process(0, 10)
    assert setup.pauser.should_process(1, 3)
    assert setup.consumer.paused == {P0}


async def test_it_resumes_after_its_ledger_with_the_sought_event(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 10)
    await setup.pauser.seek(0)
    assert setup.consumer.sought == [{P0: 10}]
    assert setup.consumer.paused == set()
    assert setup.pauser.paused == frozenset()
    assert [setup.pauser.should_process(0, offset) for offset in (15, 16, 10, 11, 12)] == [
        *(False, False),
        *(True, True, True),
    ]


async def test_it_does_not_wait_for_a_record_that_retention_deleted(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 10)
    setup.first = 30
    await setup.pauser.seek(0)
    assert setup.consumer.sought == [{P0: 30}]
    assert not setup.pauser.should_process(0, 10)
    assert setup.pauser.should_process(0, 30)


async def test_it_does_not_wait_for_a_marker(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 10)
    setup.record = 12
    await setup.pauser.seek(0)
    assert setup.consumer.sought == [{P0: 12}]
    assert not setup.pauser.should_process(0, 13)
    assert setup.pauser.should_process(0, 12)


async def test_a_rebalance_ends_a_pause(setup: Setup) -> None:
    """Faust resumes and seeks all partitions itself."""
    setup.pauser.count_dead_letters(0, 10)
    setup.app.consumer_generation_id = 2
    assert setup.pauser.paused == frozenset()
    assert setup.pauser.should_process(0, 10)
    setup.pauser.count_dead_letters(0, 1)
    assert setup.pauser.paused == {0}, "the flood continues, and so does the limit"
    await setup.pauser.seek(0)
    setup.app.consumer_generation_id = 3
    assert setup.pauser.should_process(0, 17), "a seek of an older generation is not waited for"


@pytest.mark.parametrize("error", [IllegalStateError("no assignment"), TimeoutError()])
async def test_a_failed_seek_is_retried(setup: Setup, error: Exception) -> None:
    setup.pauser.count_dead_letters(0, 10)
    setup.consumer.error = error
    await setup.pauser.seek(0)
    assert setup.pauser.paused == {0}
    assert setup.consumer.paused == {P0}
    setup.consumer.error = None
    await setup.pauser.seek(0)
    assert setup.pauser.paused == frozenset()


async def test_a_seek_without_its_event_is_repeated(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 10)
    assert setup.pauser._resumable(setup.now) == []
    setup.now += 6.1
    assert setup.pauser._resumable(setup.now) == [0]
    await setup.pauser.seek(0)
    assert setup.pauser._resumable(setup.now) == []
    setup.now += RESEEK_DELAY + 0.1
    assert setup.pauser._resumable(setup.now) == [0]
    await setup.pauser.seek(0)
    assert setup.consumer.sought == [{P0: 10}, {P0: 10}]
    assert setup.pauser.should_process(0, 10)
    setup.now += RESEEK_DELAY + 0.1
    assert setup.pauser._resumable(setup.now) == []


async def test_a_partition_is_paused_during_its_comparison(setup: Setup) -> None:
    setup.pauser.await_source(0)
    assert not setup.pauser.should_process(0, 10)
    assert setup.pauser.paused == {0}
    assert setup.pauser.flooded == frozenset()
    assert setup.pauser._resumable(setup.now) == []
    setup.pauser.resume(0)
    assert setup.pauser._resumable(setup.now) == [0]
    await setup.pauser.seek(0)
    assert setup.pauser.should_process(0, 10)


async def test_a_failed_resume_is_retried_at_once(setup: Setup) -> None:
    """The partition was not paused before: its source lost records."""
    setup.pauser.resume(0)
    setup.consumer.error = TimeoutError()
    await setup.pauser.seek(0)
    assert setup.pauser._resumable(setup.now) == [0]
    assert not setup.pauser.should_process(0, 10), "it would skip the events before"
    assert setup.pauser.paused == frozenset(), "the stuck monitor reports it if it never succeeds"
    setup.consumer.error = None
    await setup.pauser.seek(0)
    assert setup.pauser._resumable(setup.now) == []
    assert setup.consumer.paused == set()
    assert setup.pauser.should_process(0, 10)


async def test_kafka_is_queried_without_the_lock(setup: Setup) -> None:
    setup.pauser.resume(0)
    async with setup.lock:
        seeking = asyncio.create_task(setup.pauser.seek(0))
        await setup.asked.wait()
        assert setup.consumer.sought == []
    await seeking
    assert setup.consumer.sought == [{P0: 10}]


async def test_a_ledger_that_advances_during_a_seek_is_sought_again(setup: Setup) -> None:
    setup.pauser.resume(0)
    async with setup.lock:
        seeking = asyncio.create_task(setup.pauser.seek(0))
        await setup.asked.wait()
        setup.state.ledger.offset = 12
    await seeking
    assert setup.pauser._resumable(setup.now) == [0]
    await setup.pauser.seek(0)
    assert setup.consumer.sought == [{P0: 13}]


async def test_a_comparison_does_not_end_a_pause_for_dead_letters(setup: Setup) -> None:
    setup.pauser.count_dead_letters(0, 10)
    setup.pauser.await_source(0)
    setup.pauser.resume(0)
    assert setup.pauser.flooded == {0}
    assert setup.pauser._resumable(setup.now) == []
