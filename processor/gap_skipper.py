"""Partitions that no event comes from: their ledgers move over what Kafka does not have.

Holes are found when an event comes (holes.py). Where none comes, deleted records and a marker at
the end of a partition would be lag for ever: nothing would be swept, no backup would be drained,
and the worker would look stuck.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError

from processor.batch import PartitionBatch
from processor.holes import LookAhead, count_lost
from processor.table import StateTable
from service.reader import TopicEnds

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between two checks."""
REQUEST_TIMEOUT = 9.0

Offsets = Callable[[list[int]], Awaitable[dict[int, int]]]
"""Asks Kafka for the first offsets of some source partitions."""


class GapSkipper:
    """Advances the ledgers of partitions that have lag and do not move.

    `beginnings` are the first offsets of source partitions; `is_active` tells whether a partition
    is being read now.
    """

    def __init__(
        self,
        table: StateTable,
        *,
        beginnings: Offsets,
        submissions: str,
        look_ahead: LookAhead,
        is_active: Callable[[int], bool],
    ) -> None:
        self._table = table
        self._beginnings = beginnings
        self._submissions = submissions
        self._look_ahead = look_ahead
        self._is_active = is_active
        self._seen: dict[int, int] = {}
        """The next offsets of ledgers at the last check, Kafka's own."""

    async def run(self) -> None:
        """Check periodically, for ever, by a connection of its own.

        While Kafka is away, requests through Faust's consumer would delay what that has to do.
        """
        settings = self._table.settings
        while True:
            try:
                async with TopicEnds(
                    settings, self._submissions, range(settings.kafka_partitions)
                ) as topic:
                    while True:
                        await asyncio.sleep(INTERVAL)
                        await self.check(topic)
            except (KafkaError, TimeoutError) as error:
                log.info("Kafka does not answer", reason=repr(error))
            await asyncio.sleep(INTERVAL)

    async def check(self, topic: TopicEnds) -> None:
        """Advance the ledgers that have not moved since the last check.

        Raises:
            KafkaError: Kafka does not answer; TimeoutError likewise.
        """
        seen, self._seen = self._seen, self._offsets()
        idle = [p for p, offset in self._seen.items() if seen.get(p) == offset]
        async with asyncio.timeout(REQUEST_TIMEOUT):
            ends = await topic.ends()
        for partition in idle:
            if ends[partition] > self._seen[partition]:
                await self._advance(partition, self._seen[partition])

    async def count_lost(self) -> None:
        """Count what retention deleted unread of all loaded partitions.

        The table's lock must be held, and nothing that was fetched before may be folded later.
        """
        store = self._table.store
        batches = {}
        for partition, first in (await self._beginnings(store.loaded())).items():
            state = store.owned(partition)
            if state is not None and first > state.ledger.next_offset:
                batches[partition] = batch = PartitionBatch(state)
                count_lost(batch.ledger, partition, first)
        if batches:
            await self._table.flush(batches)

    def _offsets(self) -> dict[int, int]:
        partitions = self._table.store.partitions
        return {
            partition: partitions[partition].ledger.next_offset
            for partition in self._table.store.loaded()
            if self._is_active(partition)
        }

    async def _advance(self, partition: int, offset: int) -> None:
        """Move a ledger from its next `offset`, Kafka's own, to the next record that exists."""
        state = self._table.store.owned(partition)
        ahead = await self._look_ahead(partition, offset)
        if ahead.next <= offset:
            return
        async with self._table.lock:
            if self._offsets().get(partition) != offset:
                return  # an event has come since, or the partition is gone
            if state is None or self._table.store.owned(partition) is not state:
                return
            batch = PartitionBatch(state)
            count_lost(batch.ledger, partition, ahead.first)
            batch.ledger.offset += max(0, ahead.next - batch.ledger.next_offset)
            await self._table.flush({partition: batch})
        log.info("skipped offsets without records", partition=partition, offset=ahead.next)
