"""Publishing: every submission takes the lane of its entity's partition."""

import asyncio
import time
from collections.abc import Callable

from contract.frame import partition_of
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
    """As much waits for Kafka as may wait; `retry_after` is in seconds."""

    reason = "Too many submissions wait for Kafka: try again"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too much waits for Kafka: room in about {retry_after} s")
        self.retry_after = retry_after


class PartitionStoppedError(OverloadedError):
    """The processor of a partition waits for an operator: see gateway.produce.stopped."""

    reason = "The pipeline has stopped this entity's partition, and waits for an operator"

    def __init__(self) -> None:
        super().__init__(30)


class SubmissionBatcher:
    """The batchers of all partitions.

    `max_pending` bounds the submissions that wait in them at once, `max_bytes` their bytes.
    `linger` is the longest that a submission waits so that others leave with it, in seconds.
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
        """Partitions whose submissions are refused."""
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
        """At least so much more may wait; counted again only when it is used up."""

    @property
    def pending(self) -> int:
        return sum(map(len, self._batchers))

    def submit(self, key: bytes, payload: bytes, deadline: float) -> asyncio.Future[Receipt | None]:
        """Queue a submission of the entity `key`; return what will hold its fate.

        Raises:
            OverloadedError: too many wait already.
        """
        answer: asyncio.Future[Receipt | None] = asyncio.get_running_loop().create_future()
        self.enqueue(partition_of(key, self.partitions), payload, deadline, answer)
        return answer

    def enqueue(
        self,
        partition: int,
        payload: bytes,
        deadline: float,
        completion: Completion,
        count: int = 1,
    ) -> None:
        """Queue a submission, or `count` of them (see PartitionBatcher.queue), for a partition.

        Raises:
            OverloadedError: too many wait already.
        """
        self.check_capacity(count, len(payload), partition)
        self._free_submissions -= count
        self._free_bytes -= len(payload)
        self._batchers[partition].enqueue(payload, deadline, completion, count)

    def check_capacity(self, count: int, size: int, partition: int) -> None:
        """Make sure that `count` more submissions may wait, of `size` bytes together.

        Raises:
            OverloadedError: too much waits already, or the partition is stopped.
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
        """Ask the leader of every partition whether it confirms anything."""
        for batcher in self._batchers:
            batcher.request_probe()

    def stop_lingering(self) -> None:
        """Let everything that waits for company leave at once, now and from now on."""
        self._linger.stop()

    async def run(self) -> None:
        """Send frames until cancelled; then whatever still waits is not confirmed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for batcher in self._batchers:
                    tasks.create_task(batcher.run())
        finally:
            for batcher in self._batchers:
                batcher.fail_pending()
