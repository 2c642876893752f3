"""Partitions that stand still for a while, as others go on: the flood of dead letters.

A stopped partition is paused in Faust's consumer, and what was fetched of it is dropped,
unacknowledged; when it goes on it is sought to where its ledger ends. Events that were fetched
before may still come after the seek: they are dropped until the one that was sought has come.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP, AppT

from processor.holes import LookAhead
from processor.poison import PoisonCap
from processor.table import StateTable

log = structlog.get_logger(__name__)

INTERVAL = 0.5
"""Seconds between two looks whether a partition may go on."""
SEEK_TIMEOUT = 9.0
"""Seconds; batches and loads wait meanwhile."""
PATIENCE = 5.0
"""Seconds after which a partition that was sought, and has not come, is sought again."""


class _Sought(NamedTuple):
    """The event that a partition goes on with."""

    generation: int
    offset: int
    at: float


class Stops:
    """Stops partitions beyond the cap, and lets them go on.

    All of it is of one generation of the group: with the next one Faust resumes every partition and
    seeks it to its ledger.
    """

    def __init__(
        self,
        app: AppT[Any],
        table: StateTable,
        submissions: str,
        look_ahead: LookAhead,
        cap: PoisonCap,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._table = table
        self._submissions = submissions
        self._look_ahead = look_ahead
        self._cap = cap
        self._clock = clock
        self._generations: dict[int, int] = {}
        self._sought: dict[int, _Sought] = {}

    @property
    def stopped(self) -> frozenset[int]:
        """Partitions that stand still now."""
        now = self._app.consumer_generation_id
        return frozenset(p for p, generation in self._generations.items() if generation == now)

    def admits(self, partition: int, offset: int) -> bool:
        """Tell whether an event of this generation is to be folded; else it will come again."""
        if not (self._generations or self._sought):
            return True
        generation = self._app.consumer_generation_id
        if self._generations.get(partition) == generation:
            return False
        sought = self._sought.get(partition)
        if sought is not None and sought.generation == generation:
            if offset != sought.offset:
                return False
            del self._sought[partition]
        return True

    def charge(self, partition: int, letters: int) -> None:
        """Count dead letters of a frame that was just folded; stop the partition if they are many.

        The frame itself is flushed and acknowledged like all others.
        """
        now = self._clock()
        if self._cap.charge(partition, letters, now):
            self._generations[partition] = self._app.consumer_generation_id
            self._app.consumer.pause_partitions({self._tp(partition)})
            log.error(
                "partition stopped: too many dead letters",
                partition=partition,
                seconds=round(self._cap.wait(partition, now), 1),
            )

    async def run(self) -> None:
        """Let partitions go on when they may, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            for partition in self._due(self._clock()):
                async with self._table.lock:
                    await self.resume(partition)

    def _due(self, now: float) -> list[int]:
        """Partitions that may go on, and those that should have and have not."""
        generation = self._app.consumer_generation_id
        return [p for p in self.stopped if not self._cap.wait(p, now)] + [
            partition
            for partition, sought in self._sought.items()
            if sought.generation == generation and now > sought.at + PATIENCE
        ]

    async def resume(self, partition: int) -> None:
        """Continue after the ledger. The table's lock must be held.

        Where a rebalance comes in between, the partition continues with that.
        """
        generation = self._app.consumer_generation_id
        state = self._table.store.owned(partition)
        if state is None:
            return
        tp = self._tp(partition)
        try:
            ahead = await self._look_ahead(partition, state.ledger.next_offset)
            async with asyncio.timeout(SEEK_TIMEOUT):
                await self._app.consumer.rewind(tp, ahead.next)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.warning("partition cannot go on yet", partition=partition, reason=repr(error))
            return
        if generation != self._app.consumer_generation_id:
            return
        self._sought.pop(partition, None)
        if ahead.record is not None:  # else nothing of it can have been fetched before
            self._sought[partition] = _Sought(generation, ahead.record, self._clock())
        if self._generations.pop(partition, None) is not None:
            log.info("partition continues", partition=partition, offset=ahead.next)
        self._app.consumer.resume_partitions({tp})

    def _tp(self, partition: int) -> TP:
        return TP(self._submissions, partition)
