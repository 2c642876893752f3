"""Pauses single partitions while others continue.

A partition is paused for some time after too many dead letters, during a comparison of its ledger
with the source, and at the start of a new history until it is sought there. Such a partition is
paused in Faust's consumer, and its fetched events are dropped without acknowledgement. To resume,
it is sought to its ledger's next offset. Events fetched earlier may still arrive after the seek;
they are dropped until the sought event arrives.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP, AppT

from processor.core.dead_letter_limit import DeadLetterLimit
from processor.source.gap_check import Ahead, LookAhead
from processor.table.state_table import StateTable

log = structlog.get_logger(__name__)

CHECK_INTERVAL = 0.5
"""Seconds between checks whether a partition may resume."""
SEEK_TIMEOUT = 3.0
"""Seconds; batches and loads wait during the seek, which sends no request to a broker."""
RESEEK_DELAY = 5.0
"""Seconds after which a partition is sought again if the sought event has not arrived."""


class PendingSeek(NamedTuple):
    """The event at which a partition resumes."""

    generation: int
    offset: int
    requested_at: float


class _Pause(NamedTuple):
    """Why a partition is paused; without a flag, it waits for a seek."""

    generation: int
    is_flooded: bool = False
    awaits_source: bool = False


class PartitionPauser:
    """Pauses partitions and resumes them.

    All state belongs to one generation of the group: at the next one Faust resumes every partition
    and seeks it to its ledger.
    """

    def __init__(
        self,
        app: AppT[Any],
        table: StateTable,
        submissions: str,
        look_ahead: LookAhead,
        limit: DeadLetterLimit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._table = table
        self._submissions = submissions
        self._look_ahead = look_ahead
        self._limit = limit
        self._clock = clock
        self._paused: dict[int, _Pause] = {}
        self._pending_seeks: dict[int, PendingSeek] = {}
        self._wake = asyncio.Event()

    @property
    def paused(self) -> frozenset[int]:
        """Partitions that are paused on purpose."""
        paused = self._current().items()
        return frozenset(p for p, each in paused if each.is_flooded or each.awaits_source)

    @property
    def flooded(self) -> frozenset[int]:
        """Partitions that are paused because of their dead letters."""
        return frozenset(p for p, each in self._current().items() if each.is_flooded)

    def should_process(self, partition: int, offset: int) -> bool:
        """Return whether to process an event of this generation; if not, it will be delivered
        again."""
        if not (self._paused or self._pending_seeks):
            return True
        if partition in self._current():
            return False
        seek = self._pending_seeks.get(partition)
        if seek is not None and seek.generation == self._app.consumer_generation_id:
            if offset != seek.offset:
                return False
            del self._pending_seeks[partition]
        return True

    def count_dead_letters(self, partition: int, letters: int) -> None:
        """Count the dead letters of a frame; pause the partition if there are too many.

        The frame itself is flushed and acknowledged as usual.
        """
        now = self._clock()
        if self._limit.add(partition, letters, now):
            self._pause(partition, is_flooded=True)
            log.error(
                "partition stopped: too many dead letters",
                partition=partition,
                seconds=round(self._limit.seconds_to_wait(partition, now), 1),
            )

    def await_source(self, partition: int) -> None:
        """Pause a partition until `resume`, because its ledger must be compared with the source."""
        self._pause(partition, is_flooded=partition in self.flooded, awaits_source=True)

    def resume(self, partition: int) -> None:
        """Resume a partition at its ledger's next offset, as soon as it can be sought.

        A partition with too many dead letters stays paused for its time.
        """
        self._pause(partition, is_flooded=partition in self.flooded)
        self._wake.set()

    async def run(self) -> None:
        """Resume partitions when possible, forever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._wake.wait()
            self._wake.clear()
            due = self._resumable(self._clock())
            await asyncio.gather(*(self.seek(partition) for partition in due))

    def _resumable(self, now: float) -> list[int]:
        """Return the partitions that may resume, and those whose seek had no effect."""
        paused = self._current()
        may = [
            partition
            for partition, each in paused.items()
            if not each.awaits_source
            and not (each.is_flooded and self._limit.seconds_to_wait(partition, now))
        ]
        return may + [
            partition
            for partition, seek in self._pending_seeks.items()
            if seek.generation == self._app.consumer_generation_id
            and partition not in paused
            and now > seek.requested_at + RESEEK_DELAY
        ]

    async def seek(self, partition: int) -> None:
        """Resume a partition at its ledger's next offset; after an error it is retried.

        If a rebalance interrupts it, the partition resumes with the rebalance.
        """
        generation = self._app.consumer_generation_id
        state = self._table.store.owned(partition)
        if state is None:
            return
        offset = state.ledger.next_offset
        try:
            ahead = await self._look_ahead(partition, offset)
            async with self._table.lock:
                if generation != self._app.consumer_generation_id:
                    return
                if self._table.store.owned(partition) is state and (
                    state.ledger.next_offset == offset
                ):
                    await self._seek(partition, ahead, generation)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.warning(
                "could not resume the partition: retrying", partition=partition, reason=repr(error)
            )

    async def _seek(self, partition: int, ahead: Ahead, generation: int) -> None:
        tp = self._tp(partition)
        async with asyncio.timeout(SEEK_TIMEOUT):
            await self._app.consumer.rewind(tp, ahead.next)
        if generation != self._app.consumer_generation_id:
            return
        self._pending_seeks.pop(partition, None)
        if ahead.record is not None:  # else no record of it can have been fetched
            self._pending_seeks[partition] = PendingSeek(generation, ahead.record, self._clock())
        if self._paused.pop(partition, None) is not None:
            log.info("partition resumed", partition=partition, offset=ahead.next)
        self._app.consumer.resume_partitions({tp})

    def _pause(
        self, partition: int, *, is_flooded: bool = False, awaits_source: bool = False
    ) -> None:
        generation = self._app.consumer_generation_id
        self._paused[partition] = _Pause(generation, is_flooded, awaits_source)
        self._app.consumer.pause_partitions({self._tp(partition)})

    def _current(self) -> dict[int, _Pause]:
        generation = self._app.consumer_generation_id
        return {p: each for p, each in self._paused.items() if each.generation == generation}

    def _tp(self, partition: int) -> TP:
        return TP(self._submissions, partition)
