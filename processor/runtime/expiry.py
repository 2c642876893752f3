"""Retention: an entity that was not heard of for long is swept, and with it its series.

Also the idle part of rule 7: where there is nothing to flush, nobody notices a zombie's writes but
a look at where the changelog ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError

from contract.row import EntityRow, RowError, decode_entity_row
from contract.total import is_total_key
from processor.core.partition_state import PartitionState
from processor.core.write_batch import Tombstone, WriteBatch
from processor.metrics import ProcessorMetrics
from processor.runtime.expiry_clock import SweepClock
from processor.runtime.table import StateTable

log = structlog.get_logger(__name__)

EndOffsets = Callable[[list[int]], Awaitable[dict[int, int]]]
"""Asks Kafka where some partitions of a topic end."""

WATCH_INTERVAL = 5.0
"""Seconds between two looks at the changelog's ends."""
AHEAD_MS = 60_000
"""Difference between the brokers' time and the confirmed one that is logged, in milliseconds."""
SLICE_ROWS = 500
"""Rows that are looked at in one go: about a millisecond."""
SLICE_PAUSE = 0.01
"""Seconds after each, in which batches go on: nobody waits for a sweep."""


class ExpiryTask:
    """Sweeps the partitions of this worker; `retention` is in seconds."""

    def __init__(
        self,
        table: StateTable,
        *,
        retention: float,
        interval: float,
        source_ends: EndOffsets,
        changelog_ends: EndOffsets,
        metrics: ProcessorMetrics,
    ) -> None:
        self._table = table
        self._retention_ms = round(retention * 1000)
        self._interval = interval
        self._source_ends = source_ends
        self._changelog_ends = changelog_ends
        self._metrics = metrics
        self._clock = SweepClock()

    async def run(self) -> None:
        """Sweep every `interval` seconds, for ever."""
        while True:
            await asyncio.sleep(self._interval)
            for partition in self._table.store.loaded():
                await self.expire(partition)

    async def watch(self) -> None:
        """Look every few seconds whether someone else wrote to an owned changelog partition."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            await self.check_foreign_writes()

    async def check_foreign_writes(self) -> None:
        """Put right what someone else wrote. Kafka is asked without the table's lock."""
        store = self._table.store
        before = {p: (store.partitions[p], store.partitions[p].next_offset) for p in store.loaded()}
        ends = await _end_offsets(self._changelog_ends, [*before])
        async with self._table.lock:
            for partition, end in ends.items():
                state, known = before[partition]
                if store.owned(partition) is not state:
                    continue
                if end < known <= state.next_offset:
                    await self._table.write_again(partition)
                elif end > state.next_offset:
                    gap = (state.next_offset, end)
                    state.next_offset = end
                    await self._table.repair(partition, state, [gap])

    async def expire(self, partition: int) -> int:
        """Remove the partition's expired rows, unless it has lag; return how many.

        Time is the brokers': the append time of a ledger row that is written for it, as far as the
        clocks of this machine confirm it. A clock that is ahead would sweep entities that live.
        """
        store = self._table.store
        state = store.owned(partition)
        async with self._table.lock:
            if state is None or store.owned(partition) is not state:
                return 0
            flushed = await self._table.flush({partition: WriteBatch(state)})
        broker = flushed.get(partition)
        if broker is None:  # it was lost meanwhile
            return 0
        now = self._clock.observe(
            partition, broker, time.monotonic() * 1000, wall=time.time() * 1000
        )
        if broker - now > AHEAD_MS:
            log.warning(
                "broker's clock is ahead, entities are swept later",
                partition=partition,
                seconds=round((broker - now) / 1000),
            )
        expired = await self._expired_keys(partition, state, now - self._retention_ms)
        if not expired:
            return 0
        ends = await _end_offsets(self._source_ends, [partition])
        async with self._table.lock:
            has_lag = ends.get(partition) != state.ledger.offset + 1
            if has_lag or store.owned(partition) is not state:
                return 0
            batch = WriteBatch(state)
            for key in expired:
                row = _readable(state.rows.get(key))  # which may have been loaded anew meanwhile
                if row is not None and row.last_appended_ms < now - self._retention_ms:
                    batch.changes[key] = Tombstone(row.position)
            await self._table.flush({partition: batch})
        log.info("swept", partition=partition, entities=len(batch.changes))
        self._metrics.expired_rows.inc(len(batch.changes))
        return len(batch.changes)

    async def _expired_keys(self, partition: int, state: PartitionState, limit: int) -> list[bytes]:
        """Keys of rows that were last heard of before `limit`, looked for in slices: batches go on.

        There are none where the partition is lost meanwhile.
        """
        found = []
        unreadable: list[bytes] = []
        for number, key in enumerate(list(state.rows)):
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(SLICE_PAUSE)
                if self._table.store.owned(partition) is not state:
                    return []
            value = state.rows.get(key)
            if value is None or is_total_key(key):
                continue
            row = _readable(value)
            if row is None:
                unreadable.append(key)
            elif row.last_appended_ms < limit:
                found.append(key)
        if len(unreadable) != state.unreadable:  # said once, not at every sweep
            example = unreadable[0].decode(errors="replace") if unreadable else None
            log.error("rows that cannot be read", number=len(unreadable), example=example)
            state.unreadable = len(unreadable)
        return found


def _readable(value: bytes | None) -> EntityRow | None:
    try:
        return None if value is None else decode_entity_row(value)
    except RowError:
        return None


async def _end_offsets(ends: EndOffsets, partitions: list[int]) -> dict[int, int]:
    """Ask where partitions end; nothing while Kafka is away: the next look comes soon."""
    try:
        return await ends(partitions)
    except (KafkaError, TimeoutError) as error:
        log.warning("Kafka does not answer", reason=repr(error))
        return {}
