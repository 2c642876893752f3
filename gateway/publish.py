"""Publishing: every submission takes the lane of its entity's partition."""

import asyncio
import time
from collections.abc import Callable

from contract.frame import partition_of
from contract.position import Receipt
from gateway.clock import BrokerClock
from gateway.drain import DrainRate
from gateway.lane import Answer, Lane, Sender
from gateway.metrics import FrameMetrics


class OverloadedError(Exception):
    """As much waits for Kafka as may wait; `retry_after` is in seconds."""

    reason = "Too many submissions wait for Kafka: try again"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too much waits for Kafka: room in about {retry_after} s")
        self.retry_after = retry_after


class PartitionStoppedError(OverloadedError):
    """The processor of a partition waits for an operator: see gateway.stopped."""

    reason = "The pipeline has stopped this entity's partition, and waits for an operator"

    def __init__(self) -> None:
        super().__init__(30)


class Publisher:
    """All lanes.

    `max_waiting` bounds the submissions that wait in them at once, `max_bytes` their bytes.
    """

    def __init__(
        self,
        topic: str,
        partitions: int,
        sender: Sender,
        clock: BrokerClock,
        metrics: FrameMetrics,
        max_waiting: int,
        max_bytes: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.partitions = partitions
        self.stopped: set[int] = set()
        """Partitions whose submissions are refused."""
        self._drain = DrainRate()
        self._now = now
        self._lanes = [
            Lane(partition, topic, sender, clock, metrics, drain=self._drain)
            for partition in range(partitions)
        ]
        self.max_waiting = max_waiting
        self.max_bytes = max_bytes
        self._room = self._room_bytes = 0
        """At least so much more may wait; counted again only when it is used up."""

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lanes))

    def submit(self, key: bytes, piece: bytes, deadline: float) -> asyncio.Future[Receipt | None]:
        """Queue a submission of the entity `key`; return what will hold its fate.

        Raises:
            OverloadedError: too many wait already.
        """
        answer: asyncio.Future[Receipt | None] = asyncio.get_running_loop().create_future()
        self.queue(partition_of(key, self.partitions), piece, deadline, answer)
        return answer

    def queue(
        self, partition: int, pieces: bytes, deadline: float, answer: Answer, count: int = 1
    ) -> None:
        """Queue a submission, or `count` of them (see Lane.queue), for a partition.

        Raises:
            OverloadedError: too many wait already.
        """
        self.require_room(count, len(pieces), partition)
        self._room -= count
        self._room_bytes -= len(pieces)
        self._lanes[partition].queue(pieces, deadline, answer, count)

    def require_room(self, count: int, size: int, partition: int) -> None:
        """Make sure that `count` more submissions may wait, of `size` bytes together.

        Raises:
            OverloadedError: too much waits already, or the partition is stopped.
        """
        if partition in self.stopped:
            raise PartitionStoppedError
        if count <= self._room and size <= self._room_bytes:
            return
        waiting = self.waiting
        self._room = self.max_waiting - waiting
        self._room_bytes = self.max_bytes - sum(lane.size for lane in self._lanes)
        if count > self._room or size > self._room_bytes:
            raise OverloadedError(self._drain.wait(waiting, self._now()))

    def ask(self) -> None:
        """Ask the leader of every partition whether it confirms anything."""
        for lane in self._lanes:
            lane.ask()

    async def run(self) -> None:
        """Send frames until cancelled; then whatever still waits is not confirmed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(lane.run())
        finally:
            for lane in self._lanes:
                lane.give_up()
