"""Passes every submission to the batcher of its partition, and bounds the submissions that wait."""

import asyncio
import time
from collections.abc import Callable

from contract.entity import partition_of
from contract.position import Receipt
from gateway.metrics import FrameMetrics
from gateway.produce.broker_clock import BrokerClock
from gateway.produce.linger import Linger
from gateway.produce.partition_batcher import (
    MIN_TIME_TO_DEADLINE,
    Completion,
    FrameSender,
    PartitionBatcher,
)
from gateway.produce.throughput import ThroughputEstimator


class OverloadedError(Exception):
    """The limit of waiting submissions is reached; `retry_after` is in seconds."""

    reason = "Too many submissions are waiting for Kafka: try again later"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many submissions are waiting for Kafka, retry in {retry_after} s")
        self.retry_after = retry_after


class PartitionStoppedError(OverloadedError):
    """The processor has stopped the partition; see gateway.produce.stopped."""

    reason = "The partition of this entity is stopped until an operator resolves a problem"

    def __init__(self) -> None:
        super().__init__(30)


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
                partition,
                topic,
                sender,
                clock,
                metrics,
                throughput=self._throughput,
                linger=self._linger,
            )
            for partition in range(partitions)
        ]
        self.max_pending = max_pending
        self.max_bytes = max_bytes
        self._free_submissions = self._free_bytes = 0
        """Lower bounds of the free capacity; recomputed only when they are used up."""

    @property
    def pending(self) -> int:
        return sum(map(len, self._batchers))

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
        self._free_bytes = self.max_bytes - sum(batcher.size_bytes for batcher in self._batchers)
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
                batcher.fail_pending()
