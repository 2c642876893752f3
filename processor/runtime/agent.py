"""Flush, then acknowledge; any failed batch ends the process (rules 1 and 2).

Faust's `take` acknowledges in a `finally`, even after an exception or SIGTERM, and after an
exception Faust restarts the agent while later frames overtake the failed one. So events are taken
without acknowledgement, and acknowledged in order after Kafka has confirmed their flush. Any error
except invalid data ends the process: nothing unflushed was acknowledged, and the supervisor
restarts it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.types import EventT, StreamT

from processor.changelog.anomaly_producer import AnomalyProducer
from processor.core.frame_reducer import reduce_frame
from processor.core.lost_cut import begin_after_cut, is_cut_lost
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from processor.faust_compat.events import take_events
from processor.faust_compat.poll import Poll
from processor.membership.heartbeat import HeartbeatMonitor
from processor.metrics import ProcessorMetrics
from processor.runtime.assignment import PartitionAssignment
from processor.runtime.pauser import PartitionPauser
from processor.source.gap_check import LookAhead, is_gap, skip_gap
from processor.source.source_check import SourceCheck
from processor.table.state_table import FLUSH_DEADLINE, StateTable
from service.evidence import EvidenceLog
from service.kafka.aiokafka_compat.record_batches import leader_epoch
from service.tasks import abort

log = structlog.get_logger(__name__)

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Size of frames in bytes at which a batch is full."""
BATCH_TIMEOUT = 0.01
"""Seconds that a batch waits for more events, as a poll returns its partitions one by one."""
GAP_TIMEOUT = 3.0
"""Seconds in which Kafka must explain a gap; other partitions wait during that time."""
MAX_LETTERS = 1_000
"""Maximum number of dead letters to write within one deadline; a frame may produce any number."""
YIELD_INTERVAL = 0.005
"""Seconds of processing after which other tasks may run; each yield costs about 20 us."""


@dataclass
class _Reduced:
    """What became of a batch's events."""

    processed: list[EventT[bytes]] = field(default_factory=list)
    """Events to acknowledge after the flush: their last record was applied."""
    to_compare: set[int] = field(default_factory=set)
    """Partitions whose ledger must be compared with the source before they continue."""
    frames: int = 0


class Agent:
    """Reduces batches of frames into the table."""

    def __init__(
        self,
        table: StateTable,
        assignment: PartitionAssignment,
        heartbeat: HeartbeatMonitor,
        look_ahead: LookAhead,
        pauser: PartitionPauser,
        source: SourceCheck,
        anomalies: AnomalyProducer,
        evidence: EvidenceLog,
        metrics: ProcessorMetrics,
    ) -> None:
        self._table = table
        self._assignment = assignment
        self._heartbeat = heartbeat
        self._look_ahead = look_ahead
        self._pauser = pauser
        self._source = source
        self._anomalies = anomalies
        self._evidence = evidence
        self._metrics = metrics

    async def run(self, stream: StreamT[bytes]) -> None:
        """Process batches forever, one at a time."""
        try:
            async for events in take_events(stream, _size, MAX_BATCH_BYTES, BATCH_TIMEOUT):
                async with self._table.lock:
                    await self._process_batch(stream, events)
        except Exception as error:  # continuing after any error would skip the batch
            abort("a batch failed", reason=repr(error), exc_info=error)
        finally:
            # A stop may interrupt a flush; an expiry run after it would not know Kafka's state.
            self._table.release_partitions()

    async def _process_batch(self, stream: StreamT[bytes], events: Sequence[EventT[bytes]]) -> None:
        await self._heartbeat.wait_until_fresh()
        taken_at = time.time()
        batches: dict[int, WriteBatch] = {}
        with self._metrics.reduce_seconds.time():
            reduced = await self._reduce_events(events, batches)
        batches = {p: b for p, b in batches.items() if self._table.is_owned(p, b.state)}
        await self._write_dead_letters(batches)
        if batches:
            with self._metrics.flush_seconds.time():
                await self._table.flush(batches)
            self._report(batches)
        for event in reduced.processed:
            # The generation may have ended during the flush; then another worker gets this event.
            if self._assignment.is_current(event):
                await stream.ack(event)
                self._metrics.frames.inc(len(_records(event)))
        if reduced.to_compare:
            for partition in reduced.to_compare:
                self._pauser.await_source(partition)
            self._source.request(reduced.to_compare)
        oldest = min((event.message.timestamp for event in events), default=taken_at)
        self._metrics.queue_seconds.observe(max(0.0, taken_at - oldest))
        self._metrics.batch_frames.observe(reduced.frames)

    async def _reduce_events(
        self, events: Sequence[EventT[bytes]], batches: dict[int, WriteBatch]
    ) -> _Reduced:
        """Apply the records of events to the batches of their partitions."""
        reduced = _Reduced()
        yield_at = time.monotonic() + YIELD_INTERVAL
        for event in events:
            records, partition = _records(event), event.message.partition
            if not self._assignment.is_current(event):
                self._metrics.foreign_frames.inc(len(records))
                continue
            reduced.frames += len(records)
            for record in records:
                if partition in reduced.to_compare or not self._pauser.should_process(
                    partition, record.offset
                ):
                    continue
                if not await self._reduce(self._batch(batches, partition), record):
                    reduced.to_compare.add(partition)
                    continue
                if record is records[-1]:
                    reduced.processed.append(event)
                if time.monotonic() > yield_at:  # lets the stall watchdog tick
                    await asyncio.sleep(0)
                    yield_at = time.monotonic() + YIELD_INTERVAL
        return reduced

    def _report(self, batches: dict[int, WriteBatch]) -> None:
        """Count and enqueue the anomalies of batches that were flushed, and note what they did not
        apply."""
        self._metrics.batch_submissions.observe(sum(b.submissions for b in batches.values()))
        for batch in batches.values():
            self._metrics.count_anomalies(batch.anomaly_counts)
            self._anomalies.enqueue(batch.anomalies)
            for (kind, id, reason), (receipt, detail, times) in batch.unapplied.items():
                self._evidence.note(
                    *(kind, id, reason),
                    at_ms=receipt.appended,
                    detail=detail,
                    receipt=str(receipt),
                    count=times,
                )

    def _batch(self, batches: dict[int, WriteBatch], partition: int) -> WriteBatch:
        batch = batches.get(partition)
        if batch is None:
            batch = WriteBatch(self._table.store.partitions[partition])
            batches[partition] = batch
        return batch

    async def _reduce(self, batch: WriteBatch, source: ConsumerRecord) -> bool:
        """Apply a record; return False if the ledger must be compared with the source first."""
        record = _source_record(source, batch)
        if batch.state.needs_comparison(batch.ledger, source.offset, record.epoch):
            return False
        if is_gap(batch.ledger, record.offset):
            try:
                async with asyncio.timeout(GAP_TIMEOUT):
                    ahead = await self._look_ahead(record.partition, batch.ledger.next_offset)
            except (KafkaError, TimeoutError) as error:
                log.warning("Kafka does not explain a gap", reason=repr(error))
                return False
            if not ahead.is_of(batch.state.source_topic, batch.state.source_epoch):
                return False
            skip_gap(batch.ledger, record.partition, record.offset, ahead)
        if is_cut_lost(batch.ledger, record):
            record = begin_after_cut(batch.ledger, record)
        letters = len(batch.dead_letters)
        reduce_frame(batch, record, self._table.settings.kafka_partitions)
        if len(batch.dead_letters) > letters:
            self._pauser.count_dead_letters(record.partition, len(batch.dead_letters) - letters)
        return True

    async def _write_dead_letters(self, batches: dict[int, WriteBatch]) -> None:
        letters = [letter for batch in batches.values() for letter in batch.dead_letters]
        if letters:
            self._metrics.dead_letters.inc(len(letters))
            log.warning("dead letters written", number=len(letters), reason=letters[-1].reason)
            for start in range(0, len(letters), MAX_LETTERS):
                async with asyncio.timeout(FLUSH_DEADLINE):
                    await self._table.changelog.write_dead_letters(
                        letters[start : start + MAX_LETTERS]
                    )


def _records(event: EventT[bytes]) -> Sequence[ConsumerRecord]:
    poll = event.message.value
    assert isinstance(poll, Poll)
    return poll.records


def _size(event: EventT[bytes]) -> int:
    poll = event.message.value
    assert isinstance(poll, Poll)
    return poll.size


def _source_record(record: ConsumerRecord, batch: WriteBatch) -> Record:
    shift = batch.ledger.shift
    return Record(
        record.partition,
        record.offset + shift,
        record.timestamp,
        record.value,
        shift,
        leader_epoch(record),
        batch.state.source_topic,
    )
