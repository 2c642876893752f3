"""Rules 1 and 2: flush, then acknowledge; nothing escapes the batch, nothing half-done goes on.

Faust's `take` acknowledges in a `finally`, on exceptions and on a SIGTERM too, and an exception
lets it restart the agent while later frames overtake the failed one. So events are taken without
acknowledgement, acknowledged in order when Kafka has their flush, and any error but bad data ends
the process: nothing unflushed was acknowledged, and the supervisor starts it again.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from faust.types import EventT, StreamT

from processor.anomaly_log import AnomalyLog
from processor.batch import PartitionBatch, Record
from processor.fold import fold
from processor.heartbeat import Heartbeat
from processor.holes import LookAhead, is_hole, skip_hole
from processor.metrics import ProcessorMetrics
from processor.ownership import Ownership
from processor.source_check import SourceCheck
from processor.stops import Stops
from processor.table import FLUSH_DEADLINE, StateTable
from service.kafka_compat import leader_epoch
from service.tasks import die

log = structlog.get_logger(__name__)

TAKE = 200
"""Most frames in a batch."""
WITHIN = 0.02
"""Seconds that a batch waits for more frames."""
HOLE_TIMEOUT = 3.0
"""Seconds in which Kafka must explain a hole; other partitions wait meanwhile."""
LETTERS = 1_000
"""Dead letters that are written within one deadline: a frame may bring any number."""
TURN = 0.005
"""Seconds of folding after which others get their turn; each turn costs about 20 us."""


class Agent:
    """Folds batches of frames into the table."""

    def __init__(
        self,
        table: StateTable,
        ownership: Ownership,
        heartbeat: Heartbeat,
        look_ahead: LookAhead,
        stops: Stops,
        source: SourceCheck,
        anomalies: AnomalyLog,
        metrics: ProcessorMetrics,
    ) -> None:
        self._table = table
        self._ownership = ownership
        self._heartbeat = heartbeat
        self._look_ahead = look_ahead
        self._stops = stops
        self._source = source
        self._anomalies = anomalies
        self._metrics = metrics

    async def run(self, stream: StreamT[bytes]) -> None:
        """Take batches for ever, one at a time."""
        try:
            async for events in stream.noack_take(TAKE, within=WITHIN):
                async with self._table.lock:
                    await self._process(stream, events)
        except Exception as error:  # whatever it is, going on would pass over a batch
            die("a batch failed", reason=repr(error), exc_info=error)
        finally:
            # At a stop a flush may be under way: a sweep after it would not know what Kafka has.
            self._table.retire()

    async def _process(self, stream: StreamT[bytes], events: Sequence[EventT[bytes]]) -> None:
        await self._heartbeat.fresh()
        taken_at = time.time()
        batches: dict[int, PartitionBatch] = {}
        folded: list[EventT[bytes]] = []
        doubtful: set[int] = set()
        """Partitions whose ledger is to be compared with the source before they go on."""
        turn = time.monotonic() + TURN
        with self._metrics.fold_seconds.time():
            for event in events:
                if self._ownership.is_current(event):
                    message = event.message
                    partition, offset = message.partition, message.offset
                    if partition in doubtful or not self._stops.admits(partition, offset):
                        continue
                    batch = self._batch(batches, partition)
                    if batch.state.is_doubtful(batch.ledger, offset, leader_epoch(message)):
                        doubtful.add(partition)
                        continue
                    if not await self._fold(batch, _record(event, batch)):
                        doubtful.add(partition)
                        continue
                    folded.append(event)
                    if time.monotonic() > turn:  # the lease's ticker runs in between
                        await asyncio.sleep(0)
                        turn = time.monotonic() + TURN
                else:
                    self._metrics.foreign_frames.inc()
        batches = {p: b for p, b in batches.items() if self._table.is_owned(p, b.state)}
        await self._write_dead_letters(batches)
        if batches:
            with self._metrics.flush_seconds.time():
                await self._table.flush(batches)
            self._tell(batches)
        for event in folded:
            # A generation may have ended during the flush: then another reads this event again.
            if self._ownership.is_current(event):
                await stream.ack(event)
                self._metrics.frames.inc()
        if doubtful:
            for partition in doubtful:
                self._stops.await_source(partition)
            self._source.request(doubtful)
        oldest = min((event.message.timestamp for event in events), default=taken_at)
        self._metrics.queue_seconds.observe(max(0.0, taken_at - oldest))
        self._metrics.batch_frames.observe(len(events))

    def _tell(self, batches: dict[int, PartitionBatch]) -> None:
        """Count and tell what was noticed, once it is certain that the batch counts."""
        self._metrics.batch_submissions.observe(sum(b.submissions for b in batches.values()))
        for batch in batches.values():
            self._metrics.count_anomalies(batch.noticed)
            self._anomalies.tell(batch.anomalies)

    def _batch(self, batches: dict[int, PartitionBatch], partition: int) -> PartitionBatch:
        batch = batches.get(partition)
        if batch is None:
            batch = PartitionBatch(self._table.store.partitions[partition])
            batches[partition] = batch
        return batch

    async def _fold(self, batch: PartitionBatch, record: Record) -> bool:
        """Fold a record, unless its ledger is to be compared with the source first."""
        if is_hole(batch.ledger, record.offset):
            try:
                async with asyncio.timeout(HOLE_TIMEOUT):
                    ahead = await self._look_ahead(record.partition, batch.ledger.next_offset)
            except (KafkaError, TimeoutError) as error:
                log.warning("Kafka does not explain a hole", reason=repr(error))
                return False
            if not ahead.is_of(batch.state.source_topic, batch.state.source_epoch):
                return False
            skip_hole(batch.ledger, record.partition, record.offset, ahead)
        letters = len(batch.dead_letters)
        fold(batch, record, self._table.settings.kafka_partitions)
        if len(batch.dead_letters) > letters:
            self._stops.charge(record.partition, len(batch.dead_letters) - letters)
        return True

    async def _write_dead_letters(self, batches: dict[int, PartitionBatch]) -> None:
        letters = [letter for batch in batches.values() for letter in batch.dead_letters]
        if letters:
            self._metrics.dead_letters.inc(len(letters))
            for start in range(0, len(letters), LETTERS):
                async with asyncio.timeout(FLUSH_DEADLINE):
                    await self._table.writer.write_dead_letters(letters[start : start + LETTERS])


def _record(event: EventT[Any], batch: PartitionBatch) -> Record:
    message = event.message
    shift = batch.ledger.shift
    return Record(
        message.partition,
        message.offset + shift,
        round(message.timestamp * 1000),
        message.value,
        shift,
        leader_epoch(message),
        batch.state.source_topic,
    )
