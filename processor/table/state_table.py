"""Rule 1, first half: flush.

The changes of a batch are collected per partition. Rows, followed by the ledger that counts them,
are written in one record batch, which Kafka appends whole or not at all
(processor.core.write_batch). So a reader that has a ledger row has all rows that it covers, and a
restart neither loses nor double-counts a submission.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import structlog

from processor.changelog.producer import PRODUCER_STATE_LOST, ChangelogProducer
from processor.changelog.repair import FencedError, changes_to, repair
from processor.core.partition_state import OffsetRange, PartitionState
from processor.core.write_batch import WriteBatch
from processor.faust_compat.table import TableWithStore
from processor.membership.stall_watchdog import StallWatchdog
from processor.table.store import PartitionedStore
from service.clock import uptime
from service.config.settings import KafkaSettings
from service.tasks import abort, extend

log = structlog.get_logger(__name__)

FLUSH_DEADLINE = 30.0
"""Seconds for a flush. A session would be shorter than a leader failover and cause
restart loops."""


REPAIR_TIMEOUT = 30.0
"""Seconds without a record while the changelog is read for a repair; batches and loads wait."""


class StateTable(TableWithStore):
    """The table of all rows. Rows change through batches, not through its dict interface."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    settings: KafkaSettings
    changelog: ChangelogProducer
    watchdog: StallWatchdog

    def __init__(self, app: Any, *, settings: KafkaSettings, **options: Any) -> None:
        super().__init__(app, **options)
        self.settings = settings
        self.lock = asyncio.Lock()
        """Held while a batch, an expiry run, a load or a repair changes rows of this worker."""

    def create_store(self) -> PartitionedStore:
        store = PartitionedStore(
            "partitioned://",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            value_type=self.value_type,
        )
        store.settings = self.settings
        store.changelog = self.changelog_topic_name
        return store

    @property
    def store(self) -> PartitionedStore:
        store: PartitionedStore = self.data
        return store

    def on_key_set(self, key: bytes, value: bytes) -> None:
        raise TypeError("rows change through batches: see processor.core.write_batch")

    def on_key_del(self, key: bytes) -> None:
        raise TypeError("rows change through batches: see processor.core.write_batch")

    def release_partitions(self) -> None:
        """Give up all partitions after the agent has ended, so that no task writes to them."""
        self.store.partitions.clear()

    def is_owned(self, partition: int, state: PartitionState) -> bool:
        """Return whether `state` is still the current state of the partition."""
        return self.store.partitions.get(partition) is state

    async def flush(self, batches: dict[int, WriteBatch]) -> dict[int, int]:
        """Write and commit batches; return the append time of each partition's ledger row.

        Does not change the state of a partition that was lost during the flush. Repairs writes of
        other workers that it detects. If the flush fails, Kafka's state is unknown and the process
        ends.
        """
        try:
            try:
                return await self._flush(batches)
            except PRODUCER_STATE_LOST:  # the changelog has lost this producer's last records
                appended: dict[int, int] = {}
                for partition, batch in batches.items():
                    if self.is_owned(partition, batch.state):
                        # A part may be written; once committed, the state is compared with it.
                        batch.commit()
                        appended |= await self.write_again(partition)
                return appended
        except Exception as error:  # after any error, a part may have been written
            abort(
                "a flush failed",
                reason=repr(error),
                without_leader=await self.store.without_leader(),
                exc_info=error,
            )

    async def _flush(self, batches: dict[int, WriteBatch]) -> dict[int, int]:
        self.watchdog.check()
        began = uptime()
        async with asyncio.timeout(FLUSH_DEADLINE):
            written = await self.changelog.write(
                {p: batch.record_batches() for p, batch in batches.items()}
            )
        for partition, batch in batches.items():
            if self.is_owned(partition, batch.state):
                batch.commit()
                batch.state.current_at = (
                    began  # no other worker wrote before, or it is repaired below
                )
                own = written[partition].offsets
                if batch.state.has_reused_offsets(own):
                    await self.write_again(partition)
                elif gaps := batch.state.find_gaps(own):
                    await self.repair(partition, batch.state, gaps)
        return {partition: each.appended_ms for partition, each in written.items()}

    async def write_again(self, partition: int) -> dict[int, int]:
        """Compare the state with a changelog that lost its end, and write the missing records.

        Returns the append time of the ledger row, as `flush` does. Ends the process if the
        changelog cannot be read or has a newer record.
        """
        state = self.store.partitions[partition]
        ledger = state.ledger
        try:
            async with asyncio.timeout(REPAIR_TIMEOUT) as timeout:
                await self.changelog.renew()
                await self.store.load_partitions(
                    [partition], lambda: extend(timeout, REPAIR_TIMEOUT)
                )
            if state.ledger is not ledger:
                raise FencedError("the changelog's ledger is newer")
        except Exception as error:  # Kafka's state is unknown
            abort("could not restore the changelog", reason=repr(error), exc_info=error)
        appended = await self.flush(
            {partition: WriteBatch(state, changes_to(state, state.regressed_keys()))}
        )
        state.clear_regressed()
        return appended

    async def rewrite_regressed(self, partitions: Iterable[int]) -> None:
        """Rewrite rows of loaded partitions whose last record is not the newest."""
        states = {p: state for p in partitions if (state := self.store.owned(p)) is not None}
        batches = {
            partition: WriteBatch(state, changes_to(state, positions))
            for partition, state in states.items()
            if (positions := state.regressed_keys())
        }
        if batches:
            log.warning(
                "rows regressed: writing them again",
                keys=sum(len(b.changes) for b in batches.values()),
            )
            await self.flush(batches)
        for state in states.values():
            state.clear_regressed()

    async def repair(self, partition: int, state: PartitionState, gaps: list[OffsetRange]) -> None:
        """Read the records that another worker wrote, and overwrite older ones.

        Ends the process if a record is newer than the state, or if the changelog cannot be read.
        """
        try:
            async with asyncio.timeout(REPAIR_TIMEOUT):
                changes = await repair(
                    self.settings, self.changelog_topic_name, partition, state, gaps
                )
        except Exception as error:  # an unread gap must not be forgotten
            abort("could not repair a foreign write", reason=repr(error), exc_info=error)
        await self.flush({partition: WriteBatch(state, changes)})
