"""Finds ledgers that an operator has written for stopped partitions."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from processor.core.partition_state import PartitionState
from processor.table.state_table import StateTable
from service.kafka.reader import TopicReader

log = structlog.get_logger(__name__)

READ_TIMEOUT = 5.0
"""Seconds to check for a new ledger, and to load it; loading holds the table's lock."""


class StoppedLedgers:
    """Reloads stopped partitions whose ledger has been written."""

    def __init__(self, table: StateTable) -> None:
        self._table = table

    def states(self) -> dict[int, PartitionState]:
        """Return the stopped partitions."""
        partitions = self._table.store.partitions
        return {p: state for p, state in partitions.items() if state.source_fault is not None}

    async def reload(self) -> None:
        """Reload the stopped partitions that have a new ledger."""
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
            log.info("could not read a stopped partition", partition=partition, reason=repr(error))

    async def _is_written(self, partition: int, state: PartitionState) -> bool:
        """Return whether there is a new ledger. Runs without the lock, as it changes nothing."""
        found = False

        def search(_: int, records: Sequence[ConsumerRecord]) -> None:
            nonlocal found
            found = found or any(record.key == state.ledger_key for record in records)

        changelog = self._table.changelog_topic_name
        async with TopicReader(self._table.settings, changelog, [partition]) as reader:
            await reader.read_to_end(search, {partition: state.next_offset})
        return found
