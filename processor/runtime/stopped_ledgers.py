"""Partitions that are stopped for their source: finds the ledger that an operator writes."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from processor.core.partition_state import PartitionState
from processor.runtime.table import StateTable
from service.kafka.reader import TopicReader

log = structlog.get_logger(__name__)

READ_TIMEOUT = 5.0
"""Seconds to look for a new ledger, and to load it. The latter holds the table's lock."""


class StoppedLedgers:
    """Loads stopped partitions again when somebody has written their ledger."""

    def __init__(self, table: StateTable) -> None:
        self._table = table

    def states(self) -> dict[int, PartitionState]:
        """The partitions that are stopped."""
        partitions = self._table.store.partitions
        return {p: state for p, state in partitions.items() if state.source_fault is not None}

    async def reload(self) -> None:
        """Load those again that have a new ledger."""
        await asyncio.gather(*(self._reload(p, state) for p, state in self.states().items()))

    async def _reload(self, partition: int, state: PartitionState) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                if not await self._is_written(partition, state):
                    return
            async with self._table.lock:
                if self.states().get(partition) is state:
                    async with asyncio.timeout(READ_TIMEOUT):
                        await self._table.store.load_partitions([partition])
        except (KafkaError, TimeoutError) as error:
            log.info("a stopped partition is not read yet", partition=partition, reason=repr(error))

    async def _is_written(self, partition: int, state: PartitionState) -> bool:
        """Look without the lock: what is loaded is not changed."""
        found = False

        def look(_: int, records: Sequence[ConsumerRecord]) -> None:
            nonlocal found
            found = found or any(record.key == state.ledger_key for record in records)

        changelog = self._table.changelog_topic_name
        async with TopicReader(self._table.settings, changelog, [partition]) as reader:
            await reader.read_to_end(look, {partition: state.next_offset})
        return found
