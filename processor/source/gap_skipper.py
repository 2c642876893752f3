"""Advances the ledgers of idle partitions over offsets without records.

Gaps are found when an event arrives (gap_check.py). Without events, deleted records and a marker at
the end of a partition would remain as lag: nothing would expire, no backup would be drained, and
the worker would look stuck.
"""

import asyncio
from collections.abc import Callable

import structlog
from aiokafka.errors import KafkaError

from processor.core.write_batch import WriteBatch
from processor.source.gap_check import LookAhead, count_lost
from processor.table.state_table import StateTable
from service.kafka.source_reader import SourceReader

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between checks."""
SPAN_TIMEOUT = 3.0
"""Seconds in which a broker must return the end offsets of its partitions."""


class GapSkipper:
    """Advances the ledgers of partitions that have lag and make no progress.

    `is_active` returns whether a partition is being read.
    """

    def __init__(
        self,
        table: StateTable,
        *,
        submissions: str,
        look_ahead: LookAhead,
        is_active: Callable[[int], bool],
    ) -> None:
        self._table = table
        self._submissions = submissions
        self._look_ahead = look_ahead
        self._is_active = is_active
        self._seen: dict[int, int] = {}
        """The ledgers' next offsets at the last check, as Kafka's offsets."""

    async def run(self) -> None:
        """Check periodically, forever, with a separate connection.

        While Kafka is unavailable, requests through Faust's consumer would delay its other
        requests.
        """
        settings = self._table.settings
        while True:
            try:
                async with SourceReader(
                    settings, self._submissions, range(settings.kafka_partitions)
                ) as topic:
                    while True:
                        await asyncio.sleep(INTERVAL)
                        await self.check(topic)
            except (KafkaError, TimeoutError) as error:
                log.info("Kafka does not respond", reason=repr(error))
            await asyncio.sleep(INTERVAL)

    async def check(self, topic: SourceReader) -> None:
        """Advance the ledgers that have not changed since the last check.

        Raises:
            KafkaError, TimeoutError: Kafka does not respond.
        """
        seen, self._seen = self._seen, self._offsets()
        idle = [p for p, offset in self._seen.items() if seen.get(p) == offset]
        spans = await topic.spans(SPAN_TIMEOUT)
        for partition in idle:
            offset = self._seen[partition]
            if partition in spans and spans[partition][1] > offset:
                try:
                    await self._advance(partition, offset)
                except (KafkaError, TimeoutError) as error:  # other partitions may succeed
                    log.info(
                        "could not skip offsets: retrying", partition=partition, reason=repr(error)
                    )

    def _offsets(self) -> dict[int, int]:
        partitions = self._table.store.partitions
        return {
            partition: partitions[partition].ledger.next_offset
            for partition in self._table.store.loaded()
            if self._is_active(partition)
        }

    async def _advance(self, partition: int, offset: int) -> None:
        """Advance a ledger from its next `offset` (Kafka's) to the next record."""
        state = self._table.store.owned(partition)
        ahead = await self._look_ahead(partition, offset)
        if ahead.next <= offset:
            return
        async with self._table.lock:
            if self._offsets().get(partition) != offset:
                return  # an event has arrived, or the partition is gone
            if state is None or self._table.store.owned(partition) is not state:
                return
            if not ahead.is_of(state.source_topic, state.source_epoch):
                return  # the ledger must be compared with that log first
            batch = WriteBatch(state)
            count_lost(batch.ledger, partition, ahead.first, ahead)
            if ahead.next > batch.ledger.next_offset:
                batch.ledger.skip_to(ahead.next, 0, ahead.epoch, ahead.topic)
            await self._table.flush({partition: batch})
        log.info("skipped offsets without records", partition=partition, offset=ahead.next)
