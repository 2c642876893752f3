"""Expiry: removes entities, and so their series, after the retention time without a submission.

Also a part of rule 7: an idle partition has no flush that would detect a zombie's writes, so the
changelog's end offsets are polled.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError

from contract.row import EntityRow, RowError, decode_entity_row
from contract.total import is_total_key
from processor.core.expiry_evidence import expiry_evidence
from processor.core.partition_state import PartitionState
from processor.core.write_batch import Tombstone, WriteBatch
from processor.metrics import ProcessorMetrics
from processor.table.evidence_renewal import WriteEvidence
from processor.table.expiry_clock import ExpiryClock
from processor.table.state_table import StateTable
from service.kafka.best_effort_producer import PartitionRecord

log = structlog.get_logger(__name__)

EndOffsets = Callable[[list[int]], Awaitable[dict[int, int]]]
"""Requests the end offsets of some partitions of a topic."""

WATCH_INTERVAL = 5.0
"""Seconds between polls of the changelog's end offsets."""
AHEAD_MS = 60_000
"""Milliseconds that a broker's time may be ahead of the confirmed time before it is logged."""
SLICE_ROWS = 500
"""Rows to check at a time, which takes about a millisecond."""
EVIDENCE_TIMEOUT = 30.0
"""Seconds to write the last check-ins of a partition's expired entities; after that, the entities
are removed without it."""
SLICE_PAUSE = 0.01
"""Seconds of pause after each slice, in which batches are processed."""


class ExpiryTask:
    """Removes expired entities from this worker's partitions; `retention` is in seconds."""

    def __init__(
        self,
        table: StateTable,
        *,
        retention: float,
        interval: float,
        source_ends: EndOffsets,
        changelog_ends: EndOffsets,
        write_evidence: WriteEvidence,
        metrics: ProcessorMetrics,
    ) -> None:
        self._table = table
        self._retention_ms = round(retention * 1000)
        self._interval = interval
        self._source_ends = source_ends
        self._changelog_ends = changelog_ends
        self._write_evidence = write_evidence
        self._metrics = metrics
        self._clock = ExpiryClock()

    async def run(self) -> None:
        """Remove expired entities every `interval` seconds, forever."""
        while True:
            await asyncio.sleep(self._interval)
            for partition in self._table.store.loaded():
                await self.expire(partition)

    async def watch(self) -> None:
        """Check periodically whether another worker wrote to an owned changelog partition."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            await self.check_foreign_writes()

    async def check_foreign_writes(self) -> None:
        """Repair foreign writes. Requests to Kafka are made without the table's lock."""
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
        """Remove the expired rows of a partition unless it has lag; return their number.

        The time is that of the brokers: the append time of a ledger row written for this purpose,
        as far as this machine's clocks confirm it. A clock that is ahead would remove live
        entities.
        """
        store = self._table.store
        state = store.owned(partition)
        async with self._table.lock:
            if state is None or store.owned(partition) is not state:
                return 0
            flushed = await self._table.flush({partition: WriteBatch(state)})
        broker = flushed.get(partition)
        if broker is None:  # the partition was lost during the flush
            return 0
        now = self._clock.observe(
            partition, broker, time.monotonic() * 1000, wall=time.time() * 1000
        )
        if broker - now > AHEAD_MS:
            log.warning(
                "broker's clock is ahead, entities expire later",
                partition=partition,
                seconds=round((broker - now) / 1000),
            )
        expired = await self._expired_keys(partition, state, now - self._retention_ms)
        if not expired:
            return 0
        if _has_lag(await _end_offsets(self._source_ends, [partition]), partition, state):
            return 0
        await self._write_last_check_ins(partition, state, expired)
        ends = await _end_offsets(self._source_ends, [partition])
        async with self._table.lock:
            if _has_lag(ends, partition, state) or store.owned(partition) is not state:
                return 0
            batch = WriteBatch(state)
            for key in expired:
                row = _readable(state.rows.get(key))  # the row may have been reloaded
                if row is not None and row.last_appended_ms < now - self._retention_ms:
                    batch.changes[key] = Tombstone(row.position)
            await self._table.flush({partition: batch})
        log.info("expired entities removed", partition=partition, entities=len(batch.changes))
        self._metrics.expired_rows.inc(len(batch.changes))
        return len(batch.changes)

    async def _write_last_check_ins(
        self, partition: int, state: PartitionState, expired: list[bytes]
    ) -> None:
        """Write the last check-in of each entity before its row is removed, which also has it.

        An entity that reports again in between keeps its row, which is newer evidence.
        """
        rows = ((key, _readable(state.rows.get(key))) for key in expired)
        found = (expiry_evidence(key, row) for key, row in rows if row is not None)
        records = [PartitionRecord(partition, *record) for record in found if record is not None]
        try:
            async with asyncio.timeout(EVIDENCE_TIMEOUT):
                await self._write_evidence(records)
        except TimeoutError:
            log.warning("the last check-ins of expired entities were not all written")

    async def _expired_keys(self, partition: int, state: PartitionState, limit: int) -> list[bytes]:
        """Return the keys of rows last appended before `limit`, empty if the partition is lost.

        Rows are checked in slices, so batches are processed in between.
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
        if len(unreadable) != state.unreadable:  # log a change once, not on every run
            example = unreadable[0].decode(errors="replace") if unreadable else None
            log.error("rows cannot be decoded", number=len(unreadable), example=example)
            state.unreadable = len(unreadable)
        return found


def _has_lag(ends: dict[int, int], partition: int, state: PartitionState) -> bool:
    return ends.get(partition) != state.ledger.offset + 1


def _readable(value: bytes | None) -> EntityRow | None:
    try:
        return None if value is None else decode_entity_row(value)
    except RowError:
        return None


async def _end_offsets(ends: EndOffsets, partitions: list[int]) -> dict[int, int]:
    """Request end offsets; return none while Kafka is unavailable, as the next poll comes soon."""
    try:
        return await ends(partitions)
    except (KafkaError, TimeoutError) as error:
        log.warning("Kafka does not respond", reason=repr(error))
        return {}
