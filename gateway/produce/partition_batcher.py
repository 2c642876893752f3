"""Batches the submissions of one partition into frames, and sends one frame at a time.

While a frame is in flight, the batcher collects submissions for the next frame. Frames of all
partitions are sent together (see gateway.produce.linger). Under light load a frame holds one
submission and waits for nothing; under heavy load frames grow.

A submission gets 200 only if Kafka appended its frame by the frame's deadline, which is part of the
frame (see contract.frame). A submission whose result is unknown gets 503 at its deadline and not
before: until then its frame may still be applied, and the client may send again right after a 503.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import structlog

from contract.frame import encode_frame_parts
from contract.position import Receipt
from gateway.metrics import FrameMetrics
from gateway.produce.broker_clock import BrokerClock
from gateway.produce.frame_limits import FRAME_OVERHEAD, MAX_FRAME_BYTES, MAX_FRAME_SUBMISSIONS
from gateway.produce.linger import Linger
from gateway.produce.producer import RecordMetadata, SendError
from gateway.produce.throughput import ThroughputEstimator

log = structlog.get_logger(__name__)

MIN_TIME_TO_DEADLINE = 0.25
"""Seconds before its deadline at which a submission is withdrawn. A frame must be appended by its
earliest deadline, so a submission close to its deadline would endanger all others in the frame."""
FLUSH_TICK_SECONDS = 0.005
"""Average pause of a batcher in seconds after a frame of more than one submission. Few large frames
cost the gateway, Kafka and the processor far less than many small ones."""


class Completion(Protocol):
    """Receives the result of queued submissions: a future, or an object that writes the response.

    The result is the receipt of the first submission, or None if Kafka did not confirm it in time.
    Once `done` returns True, submissions that are not sent yet are withdrawn.
    """

    def done(self) -> bool: ...

    def set_result(self, receipt: Receipt | None, /) -> None: ...


class FrameSender(Protocol):
    """The part of gateway.produce.producer.ResilientProducer that a batcher uses."""

    async def wait_until_ready(self) -> None: ...

    async def send(self, topic: str, value: bytes, *, partition: int) -> RecordMetadata: ...


class PendingEntry(NamedTuple):
    """Submissions that stay together in one frame; usually a single one."""

    payload: bytes
    submission_count: int
    deadline: float
    completion: Completion


class PartitionBatcher:
    """Sends the frames of one partition; a timer completes submissions at their deadlines."""

    def __init__(
        self,
        partition: int,
        topic: str,
        sender: FrameSender,
        clock: BrokerClock,
        metrics: FrameMetrics,
        now: Callable[[], float] = time.monotonic,
        throughput: ThroughputEstimator | None = None,
        linger: Linger | None = None,
    ) -> None:
        self._throughput = throughput if throughput is not None else ThroughputEstimator()
        self._partition = partition
        self._topic = topic
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._now = now
        self._linger = linger if linger is not None else Linger(0)
        self._leaves_with = 0
        """Number of the flush that sends the first submission of the queue."""
        self._not_empty = asyncio.Event()
        self._probe_requested = False
        self._timer: asyncio.TimerHandle | None = None
        self._next_expiry = math.inf
        self._newest_offset = -1
        self._count = 0
        self.size_bytes = 0
        """Total bytes of the waiting submissions."""
        # All three are ordered by deadline.
        self._queue: deque[PendingEntry] = deque()
        self._in_flight: deque[PendingEntry] = deque()
        self._unconfirmed: deque[PendingEntry] = deque()

    def __len__(self) -> int:
        """Return the number of submissions that wait for their frame, for Kafka, or for their
        deadline."""
        return self._count

    def enqueue(
        self, payload: bytes, deadline: float, completion: Completion, count: int = 1
    ) -> None:
        """Queue `count` submissions, joined by commas, that stay together in one frame.

        They must fit one frame. `deadline` is on the clock `now`.
        """
        queue = self._queue
        flush = self._linger.arrive(count, len(payload), deadline)
        if not queue:
            self._leaves_with = flush
        entry = PendingEntry(payload, count, deadline, completion)
        if not queue or queue[-1].deadline <= deadline:
            queue.append(entry)
        else:
            position = len(queue)
            while position and queue[position - 1].deadline > deadline:
                position -= 1  # its body arrived slowly
            queue.insert(position, entry)
        self._count += count
        self.size_bytes += len(payload)
        self._not_empty.set()
        if deadline < self._next_expiry:
            self._schedule_expiry(deadline)

    async def run(self) -> None:
        """Send frames until cancelled."""
        while True:
            await self._not_empty.wait()
            if self._queue:
                await self._linger.wait(self._leaves_with)
            await self._sender.wait_until_ready()
            probe = self._probe_requested and not self._queue
            if probe or not self._clock.is_fresh(self._partition, self._now()):
                await self._send_probe()
                self._probe_requested = False
                continue
            self._probe_requested = False
            entries = self._collect()
            if entries:
                await self._send(entries)
            if len(entries) > 1:
                await asyncio.sleep(next_flush_delay(self._now()))

    def request_probe(self) -> None:
        """Send an empty frame unless a submission is sent, which serves the same purpose."""
        self._probe_requested = True
        self._not_empty.set()

    def fail_pending(self) -> None:
        """Complete all waiting submissions as not confirmed."""
        if self._timer is not None:
            self._timer.cancel()
        for entries in self._queues():
            while entries:
                self._complete(entries.popleft(), None)

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

    def _collect(self) -> list[PendingEntry]:
        cutoff = self._now() + MIN_TIME_TO_DEADLINE
        entries: list[PendingEntry] = []
        size, count = FRAME_OVERHEAD, 0
        while self._queue:
            entry = self._queue[0]
            if entry.deadline < cutoff:
                self._complete(entry, None)
            elif entry.completion.done():
                self._release(entry)
            else:
                size += len(entry.payload) + 1
                count += entry.submission_count
                if entries and (size > MAX_FRAME_BYTES or count > MAX_FRAME_SUBMISSIONS):
                    break
                entries.append(entry)
            self._queue.popleft()
        if not self._queue:
            self._not_empty.clear()
        self._leaves_with = 0  # submissions that do not fit into the frame have already waited
        return entries

    async def _send(self, entries: list[PendingEntry]) -> None:
        sent = self._now()
        deadline_ms = self._clock.latest_append_time(self._partition, entries[0].deadline)
        frame = encode_frame_parts(deadline_ms, [entry.payload for entry in entries])
        self._in_flight.extend(entries)
        self._linger.on_sent()
        try:
            metadata = await self._sender.send(self._topic, frame, partition=self._partition)
        except SendError:
            self._unconfirmed = deque(sorted([*self._unconfirmed, *self._in_flight], key=_deadline))
            self._in_flight.clear()
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
        in_time = metadata.timestamp <= deadline_ms
        if not in_time:
            self._metrics.late.inc()
            log.warning(
                "frame appended after its deadline", partition=self._partition, submissions=count
            )
        # Entries whose deadline has passed were completed and removed from `_in_flight`.
        expired = len(entries) - len(self._in_flight)
        self._in_flight.clear()
        index = 0
        for position, entry in enumerate(entries):
            if position >= expired:
                receipt = Receipt(self._partition, metadata.offset, index, metadata.timestamp)
                self._complete(entry, receipt if in_time else None)
            index += entry.submission_count

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

    def _complete(self, entry: PendingEntry, receipt: Receipt | None) -> None:
        self._release(entry)
        if not entry.completion.done():
            entry.completion.set_result(receipt)

    def _release(self, entry: PendingEntry) -> None:
        self._count -= entry.submission_count
        self.size_bytes -= len(entry.payload)

    def _queues(self) -> Iterator[deque[PendingEntry]]:
        yield from (self._unconfirmed, self._in_flight, self._queue)

    def _schedule_expiry(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_expiry = when
        # Timers of the event loop have a resolution of about a millisecond and may fire early.
        delay = max(0.001, when - self._now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer, self._next_expiry = None, math.inf
        now = self._now()
        for entries in self._queues():
            while entries and (entries[0].deadline <= now or entries[0].completion.done()):
                self._complete(entries.popleft(), None)
        first = min((entries[0].deadline for entries in self._queues() if entries), default=None)
        if first is not None:
            self._schedule_expiry(first)


def next_flush_delay(now: float) -> float:
    """Return the seconds until the next flush tick, which all batchers share.

    Frames of several partitions that are ready at the same time are sent in one request per broker;
    the cost is per request.
    """
    tick = math.ceil(now / FLUSH_TICK_SECONDS + 0.5) * FLUSH_TICK_SECONDS
    return tick - now


def _deadline(entry: PendingEntry) -> float:
    return entry.deadline
