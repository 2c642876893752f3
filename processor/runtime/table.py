"""Rule 1, first half: flush.

A batch's changes are collected per partition and written all at once; its ledger rows are written
when Kafka has acknowledged every row that they cover. Whoever has read a ledger row therefore has
all of those rows, and a restart neither loses nor counts twice.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import faust
import structlog

from contract.row import ledger_key
from processor.changelog.producer import FORGOTTEN, ChangelogProducer
from processor.changelog.repair import FencedError, changes_to, repair
from processor.core.partition_state import OffsetRange, PartitionState
from processor.core.write_batch import NO_HEADERS, WriteBatch
from processor.membership.stall_watchdog import StallWatchdog
from processor.runtime.store import PartitionedStore
from service.config.settings import KafkaSettings
from service.kafka.tombstones import uptime
from service.tasks import abort, extend

log = structlog.get_logger(__name__)

FLUSH_DEADLINE = 30.0
"""Seconds for a flush: one session is shorter than a leader's failover, and makes restart loops."""


REPAIR_TIMEOUT = 30.0
"""Seconds without a record in which what was written to the changelog is read; batches and loads
wait meanwhile."""


class StateTable(faust.Table[bytes, bytes]):
    """The table of all rows. Changes go through batches, not through its dict interface."""

    logger = logging.getLogger("mode")  # where Faust tells of starts and stops

    settings: KafkaSettings
    changelog: ChangelogProducer
    watchdog: StallWatchdog

    def __init__(self, app: Any, *, settings: KafkaSettings, **options: Any) -> None:
        super().__init__(app, **options)
        self.settings = settings
        self.lock = asyncio.Lock()
        """Held while rows of this worker change: by a batch, a sweep, a load, a repair."""

    def _new_store(self) -> PartitionedStore:
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
        raise TypeError("rows change through batches: see processor.batch")

    def on_key_del(self, key: bytes) -> None:
        raise TypeError("rows change through batches: see processor.batch")

    def release_partitions(self) -> None:
        """Own nothing any more: the agent has ended, and nobody else may write in its stead."""
        self.store.partitions.clear()

    def is_owned(self, partition: int, state: PartitionState) -> bool:
        """Tell whether `state` is still what this worker holds of the partition."""
        return self.store.partitions.get(partition) is state

    async def flush(self, batches: dict[int, WriteBatch]) -> dict[int, int]:
        """Write a batch, settle it, and return the append time of each partition's ledger row.

        Touches no state of a partition that was lost meanwhile. Where someone else wrote to the
        changelog in between, puts right what they wrote. If any of it fails, what Kafka has is no
        longer known: the process ends.
        """
        try:
            try:
                return await self._flush(batches)
            except FORGOTTEN:  # the changelog has lost what this producer wrote last
                appended: dict[int, int] = {}
                for partition, batch in batches.items():
                    if self.is_owned(partition, batch.state):
                        # Part of the batch may be written: as a part of the state it is compared.
                        batch.commit()
                        appended |= await self.write_again(partition)
                return appended
        except Exception as error:  # whatever it is, part of it may have been written
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
            rows = await self.changelog.write({p: batch.records() for p, batch in batches.items()})
            ledgers = await self.changelog.write(
                {
                    p: [(ledger_key(p), batch.encoded_ledger(), NO_HEADERS)]
                    for p, batch in batches.items()
                }
            )
        for partition, batch in batches.items():
            if self.is_owned(partition, batch.state):
                batch.commit()
                batch.state.current_at = began  # nobody else wrote before, or it is repaired below
                own = rows[partition].offsets + ledgers[partition].offsets
                if batch.state.went_back(own):
                    await self.write_again(partition)
                elif gaps := batch.state.find_gaps(own):
                    await self.repair(partition, batch.state, gaps)
        return {partition: written.appended_ms for partition, written in ledgers.items()}

    async def write_again(self, partition: int) -> dict[int, int]:
        """Compare the state with a changelog that has lost its end; write what it has no more.

        Returns the append time of the ledger row, as `flush` does.
        If it cannot be read, or has something newer, the process ends.
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
        except Exception as error:  # what Kafka has is not known
            abort("the changelog could not be written again", reason=repr(error), exc_info=error)
        appended = await self.flush(
            {partition: WriteBatch(state, changes_to(state, state.stepped_back()))}
        )
        state.forget_stepped_back()
        return appended

    async def write_stepped_back(self, partitions: Iterable[int]) -> None:
        """Write rows of loaded partitions again whose last record is not the newest."""
        states = {p: state for p in partitions if (state := self.store.owned(p)) is not None}
        batches = {
            partition: WriteBatch(state, changes_to(state, positions))
            for partition, state in states.items()
            if (positions := state.stepped_back())
        }
        if batches:
            log.warning("rows stepped back", keys=sum(len(b.changes) for b in batches.values()))
            await self.flush(batches)
        for state in states.values():
            state.forget_stepped_back()

    async def repair(self, partition: int, state: PartitionState, gaps: list[OffsetRange]) -> None:
        """Read what someone else wrote into the changelog, and write again what was newer.

        If they wrote something newer than is held here, or it cannot be read, the process ends.
        """
        try:
            async with asyncio.timeout(REPAIR_TIMEOUT):
                changes = await repair(
                    self.settings, self.changelog_topic_name, partition, state, gaps
                )
        except Exception as error:  # a gap that was not read must not be forgotten
            abort("a foreign write was not repaired", reason=repr(error), exc_info=error)
        await self.flush({partition: WriteBatch(state, changes)})
