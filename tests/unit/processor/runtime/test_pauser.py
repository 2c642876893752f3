"""Stopped partitions: what is dropped, and where they go on."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from processor.core.dead_letter_limit import DeadLetterLimit
from processor.core.partition_state import PartitionState
from processor.runtime.gap_check import Ahead
from processor.runtime.pauser import RESEEK_DELAY, PartitionPauser

P0 = TP("submissions", 0)


class Consumer:
    """What stops need of Faust's consumer."""

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


class Place:
    """Stops with one partition whose ledger is at 9, of 10 letters a minute."""

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
def place() -> Place:
    return Place()


def test_below_the_cap_everything_passes(place: Place) -> None:
    place.pauser.count_dead_letters(0, 9)
    assert place.pauser.should_process(0, 10)
    assert place.pauser.paused == frozenset()
    assert place.consumer.paused == set()


def test_beyond_it_the_partition_alone_is_stopped(place: Place) -> None:
    place.pauser.count_dead_letters(0, 10)
    assert place.pauser.paused == {0}
    assert not place.pauser.should_process(0, 10)
    assert place.pauser.should_process(1, 3)
    assert place.consumer.paused == {P0}


async def test_it_goes_on_behind_its_ledger_with_the_event_that_was_sought(place: Place) -> None:
    place.pauser.count_dead_letters(0, 10)
    await place.pauser.seek(0)
    assert place.consumer.sought == [{P0: 10}]
    assert place.consumer.paused == set()
    assert place.pauser.paused == frozenset()
    assert [place.pauser.should_process(0, offset) for offset in (15, 16, 10, 11, 12)] == [
        *(False, False),
        *(True, True, True),
    ]


async def test_what_retention_has_deleted_meanwhile_is_not_waited_for(place: Place) -> None:
    place.pauser.count_dead_letters(0, 10)
    place.first = 30
    await place.pauser.seek(0)
    assert place.consumer.sought == [{P0: 30}]
    assert not place.pauser.should_process(0, 10)
    assert place.pauser.should_process(0, 30)


async def test_a_marker_is_not_waited_for(place: Place) -> None:
    place.pauser.count_dead_letters(0, 10)
    place.record = 12
    await place.pauser.seek(0)
    assert place.consumer.sought == [{P0: 12}]
    assert not place.pauser.should_process(0, 13)
    assert place.pauser.should_process(0, 12)


async def test_a_rebalance_ends_it(place: Place) -> None:
    """Faust resumes and seeks all partitions itself."""
    place.pauser.count_dead_letters(0, 10)
    place.app.consumer_generation_id = 2
    assert place.pauser.paused == frozenset()
    assert place.pauser.should_process(0, 10)
    place.pauser.count_dead_letters(0, 1)
    assert place.pauser.paused == {0}, "the flood goes on, and so does the cap"
    await place.pauser.seek(0)
    place.app.consumer_generation_id = 3
    assert place.pauser.should_process(0, 17), (
        "nothing is waited for that another generation sought"
    )


@pytest.mark.parametrize("error", [IllegalStateError("no assignment"), TimeoutError()])
async def test_a_seek_that_fails_is_tried_again(place: Place, error: Exception) -> None:
    place.pauser.count_dead_letters(0, 10)
    place.consumer.error = error
    await place.pauser.seek(0)
    assert place.pauser.paused == {0}
    assert place.consumer.paused == {P0}
    place.consumer.error = None
    await place.pauser.seek(0)
    assert place.pauser.paused == frozenset()


async def test_what_was_sought_and_did_not_come_is_sought_again(place: Place) -> None:
    place.pauser.count_dead_letters(0, 10)
    assert place.pauser._resumable(place.now) == []
    place.now += 6.1
    assert place.pauser._resumable(place.now) == [0]
    await place.pauser.seek(0)
    assert place.pauser._resumable(place.now) == []
    place.now += RESEEK_DELAY + 0.1
    assert place.pauser._resumable(place.now) == [0]
    await place.pauser.seek(0)
    assert place.consumer.sought == [{P0: 10}, {P0: 10}]
    assert place.pauser.should_process(0, 10)
    place.now += RESEEK_DELAY + 0.1
    assert place.pauser._resumable(place.now) == []


async def test_a_partition_that_is_compared_stands_still_until_it_is_resumed(place: Place) -> None:
    place.pauser.await_source(0)
    assert not place.pauser.should_process(0, 10)
    assert place.pauser.paused == {0}
    assert place.pauser.flooded == frozenset()
    assert place.pauser._resumable(place.now) == []
    place.pauser.resume(0)
    assert place.pauser._resumable(place.now) == [0]
    await place.pauser.seek(0)
    assert place.pauser.should_process(0, 10)


async def test_a_resume_that_fails_is_due_at_once(place: Place) -> None:
    """A partition that nothing has stopped before: its source went back."""
    place.pauser.resume(0)
    place.consumer.error = TimeoutError()
    await place.pauser.seek(0)
    assert place.pauser._resumable(place.now) == [0]
    assert not place.pauser.should_process(0, 10), "it would pass over what comes before"
    assert place.pauser.paused == frozenset(), "liveness sees it if it never succeeds"
    place.consumer.error = None
    await place.pauser.seek(0)
    assert place.pauser._resumable(place.now) == []
    assert place.consumer.paused == set()
    assert place.pauser.should_process(0, 10)


async def test_kafka_is_asked_without_the_lock(place: Place) -> None:
    place.pauser.resume(0)
    async with place.lock:
        seeking = asyncio.create_task(place.pauser.seek(0))
        await place.asked.wait()
        assert place.consumer.sought == []
    await seeking
    assert place.consumer.sought == [{P0: 10}]


async def test_a_ledger_that_moves_meanwhile_is_sought_again(place: Place) -> None:
    place.pauser.resume(0)
    async with place.lock:
        seeking = asyncio.create_task(place.pauser.seek(0))
        await place.asked.wait()
        place.state.ledger.offset = 12
    await seeking
    assert place.pauser._resumable(place.now) == [0]
    await place.pauser.seek(0)
    assert place.consumer.sought == [{P0: 13}]


async def test_a_comparison_does_not_end_the_wait_for_dead_letters(place: Place) -> None:
    place.pauser.count_dead_letters(0, 10)
    place.pauser.await_source(0)
    place.pauser.resume(0)
    assert place.pauser.flooded == {0}
    assert place.pauser._resumable(place.now) == []
