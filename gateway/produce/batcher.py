"""Batches submissions into frames, and sends one frame of each partition at a time.

While a frame is in flight, the batcher of its partition collects submissions for the next frame.
Frames of all partitions are sent together (see gateway.produce.linger). Under light load a frame
holds one submission and waits for nothing; under heavy load frames grow.

A submission gets 200 only if Kafka appended its frame by the frame's deadline, which is part of the
frame (see contract.frame).
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from contract.entity import partition_of
from contract.frame import encode_frame_parts
from contract.position import Receipt
from gateway.metrics import FrameMetrics
from gateway.produce.broker_clock import BrokerClock
from gateway.produce.linger import Linger
from gateway.produce.pending import (
    MIN_TIME_TO_DEADLINE,
    Completion,
    PendingEntry,
    PendingSubmissions,
)
from gateway.produce.producer import RecordMetadata, SendError
from gateway.produce.throughput import ThroughputEstimator
from service.http.errors import ApiError

log = structlog.get_logger(__name__)

FLUSH_TICK_SECONDS = 0.005
"""Average pause of a batcher in seconds after a frame of more than one submission. Few large frames
cost the gateway, Kafka and the processor far less than many small ones."""


class OverloadedError(ApiError):
    """503: the limit of waiting submissions is reached; `retry_after` is in seconds."""

    reason = "Too many submissions are waiting for Kafka: try again later"

    def __init__(self, retry_after: int) -> None:
        super().__init__(503, self.reason, headers={"Retry-After": str(retry_after)})
        self.retry_after = retry_after


class PartitionStoppedError(OverloadedError):
    """503: the processor has stopped the partition; see gateway.produce.stopped."""

    reason = "The partition of this entity is stopped until an operator resolves a problem"

    def __init__(self) -> None:
        super().__init__(30)


class FrameSender(Protocol):
    """The part of gateway.produce.producer.ResilientProducer that a batcher uses."""

    async def wait_until_ready(self) -> None: ...

    async def send(self, topic: str, value: bytes, *, partition: int) -> RecordMetadata: ...


class SubmissionBatcher:
    """The batchers of all partitions.

    `max_pending` bounds the number of waiting submissions, `max_bytes` their total size.
    `linger` is the maximum time in seconds that a submission waits for others.
    """

    def __init__(
        self,
        topic: str,
        partitions: int,
        sender: FrameSender,
        clock: BrokerClock,
        metrics: FrameMetrics,
        max_pending: int,
        max_bytes: int,
        now: Callable[[], float] = time.monotonic,
        linger: float = 0.0,
    ) -> None:
        self.partitions = partitions
        self.stopped: set[int] = set()
        """Stopped partitions, whose submissions are refused."""
        self._throughput = ThroughputEstimator()
        self._now = now
        self._linger = Linger(linger, MIN_TIME_TO_DEADLINE)
        self._batchers = [
            PartitionBatcher(
                partition, topic, sender, clock, metrics, self._throughput, self._linger
            )
            for partition in range(partitions)
        ]
        self.max_pending = max_pending
        self.max_bytes = max_bytes
        self._free_submissions = self._free_bytes = 0
        """Lower bounds of the free capacity; recomputed only when they are used up."""

    @property
    def pending(self) -> int:
        return sum(batcher.pending.count for batcher in self._batchers)

    def submit(self, key: bytes, payload: bytes, deadline: float) -> asyncio.Future[Receipt | None]:
        """Queue a submission of the entity `key`; return a future of its receipt.

        The future's result is None if Kafka does not confirm the submission in time.

        Raises:
            OverloadedError: too many submissions are waiting.
        """
        completion: asyncio.Future[Receipt | None] = asyncio.get_running_loop().create_future()
        self.enqueue(partition_of(key, self.partitions), payload, deadline, completion)
        return completion

    def enqueue(
        self,
        partition: int,
        payload: bytes,
        deadline: float,
        completion: Completion,
        count: int = 1,
    ) -> None:
        """Queue `count` submissions (see PartitionBatcher.enqueue) for a partition.

        Raises:
            OverloadedError: too many submissions are waiting, or the partition is stopped.
        """
        self.check_capacity(count, len(payload), partition)
        self._free_submissions -= count
        self._free_bytes -= len(payload)
        self._batchers[partition].enqueue(payload, deadline, completion, count)

    def check_capacity(self, count: int, size: int, partition: int) -> None:
        """Check that `count` more submissions of `size` bytes in total may wait.

        Raises:
            OverloadedError: too many submissions are waiting, or the partition is stopped.
        """
        if partition in self.stopped:
            raise PartitionStoppedError
        if count <= self._free_submissions and size <= self._free_bytes:
            return
        pending = self.pending
        self._free_submissions = self.max_pending - pending
        self._free_bytes = self.max_bytes - sum(
            batcher.pending.size_bytes for batcher in self._batchers
        )
        if count > self._free_submissions or size > self._free_bytes:
            raise OverloadedError(self._throughput.retry_after(pending, self._now()))

    def request_probes(self) -> None:
        """Send a probe to every partition that has nothing else to send."""
        for batcher in self._batchers:
            batcher.request_probe()

    def stop_lingering(self) -> None:
        """Send lingering submissions at once, now and from now on."""
        self._linger.stop()

    async def run(self) -> None:
        """Send frames until cancelled; submissions that still wait are then not confirmed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for batcher in self._batchers:
                    tasks.create_task(batcher.run())
        finally:
            for batcher in self._batchers:
                batcher.pending.fail_all()


class PartitionBatcher:
    """Sends the frames of one partition."""

    def __init__(
        self,
        partition: int,
        topic: str,
        sender: FrameSender,
        clock: BrokerClock,
        metrics: FrameMetrics,
        throughput: ThroughputEstimator,
        linger: Linger,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partition = partition
        self._topic = topic
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._throughput = throughput
        self._linger = linger
        self._now = now
        self.pending = PendingSubmissions(now)
        self._leaves_with = 0
        """Number of the flush that sends the first queued submission."""
        self._not_empty = asyncio.Event()
        self._probe_requested = False
        self._newest_offset = -1

    def enqueue(
        self, payload: bytes, deadline: float, completion: Completion, count: int = 1
    ) -> None:
        """Queue `count` submissions, joined by commas, that stay together in one frame.

        They must fit one frame. `deadline` is on the clock `now`.
        """
        flush = self._linger.arrive(count, len(payload), deadline)
        if not self.pending.has_queued:
            self._leaves_with = flush
        self.pending.add(PendingEntry(payload, count, deadline, completion))
        self._not_empty.set()

    async def run(self) -> None:
        """Send frames until cancelled."""
        while True:
            await self._not_empty.wait()
            if self.pending.has_queued:
                await self._linger.wait(self._leaves_with)
            await self._sender.wait_until_ready()
            probe = self._probe_requested and not self.pending.has_queued
            if probe or not self._clock.is_fresh(self._partition, self._now()):
                await self._send_probe()
                self._probe_requested = False
                continue
            self._probe_requested = False
            entries = self.pending.take_frame()
            if not self.pending.has_queued:
                self._not_empty.clear()
            self._leaves_with = 0  # submissions that do not fit into the frame have already waited
            if entries:
                await self._send(entries)
            if len(entries) > 1:
                await asyncio.sleep(next_flush_delay(self._now()))

    def request_probe(self) -> None:
        """Send an empty frame unless a submission is sent, which serves the same purpose."""
        self._probe_requested = True
        self._not_empty.set()

    async def _send(self, entries: Sequence[PendingEntry]) -> None:
        sent = self._now()
        deadline_ms = self._clock.latest_append_time(self._partition, entries[0].deadline)
        frame = encode_frame_parts(deadline_ms, [entry.payload for entry in entries])
        self._linger.on_sent()
        try:
            metadata = await self._sender.send(self._topic, frame, partition=self._partition)
        except SendError:
            self.pending.on_failed()
            self._metrics.failed.inc()
            return
        finally:
            self._linger.on_landed()
        acknowledged = self._now()
        self._clock.observe(self._partition, metadata.timestamp, sent, acknowledged)
        self._note_offset(metadata.offset)
        count = sum(entry.submission_count for entry in entries)
        self._throughput.add(count, acknowledged)
        self._metrics.frame(count, len(frame), acknowledged - sent)
        if metadata.timestamp <= deadline_ms:
            first = Receipt(self._partition, metadata.offset, 0, metadata.timestamp)
            self.pending.on_acknowledged(entries, first)
            return
        self._metrics.late.inc()
        log.warning(
            "frame appended after its deadline", partition=self._partition, submissions=count
        )
        self.pending.on_acknowledged(entries, None)

    async def _send_probe(self) -> None:
        """Learn the leader's time from the acknowledgement of an empty frame."""
        sent = self._now()
        try:
            metadata = await self._sender.send(
                self._topic, encode_frame_parts(0, []), partition=self._partition
            )
        except SendError:
            self._metrics.failed.inc()
            await asyncio.sleep(FLUSH_TICK_SECONDS)
        else:
            self._clock.observe(self._partition, metadata.timestamp, sent, self._now())

    def _note_offset(self, offset: int) -> None:
        if offset <= self._newest_offset:
            self._metrics.reused_offsets.inc()
            log.error(
                "Kafka has lost the end of the submissions topic",
                partition=self._partition,
                offset=offset,
                newest_before=self._newest_offset,
            )
        self._newest_offset = offset


def next_flush_delay(now: float) -> float:
    """Return the seconds until the next flush tick, which all batchers share.

    Frames of several partitions that are ready at the same time are sent in one request per broker;
    the cost is per request.
    """
    tick = math.ceil(now / FLUSH_TICK_SECONDS + 0.5) * FLUSH_TICK_SECONDS
    return tick - now
