"""Publishing: every submission takes the lane of its entity's partition."""

import asyncio

from contract.frame import partition_of
from contract.position import Receipt
from gateway.clock import BrokerClock
from gateway.lane import Answer, Lane, Sender
from gateway.metrics import FrameMetrics


class OverloadedError(Exception):
    """As many submissions wait for Kafka as may wait."""


class Publisher:
    """All lanes. `max_waiting` bounds the submissions that wait in them at once."""

    def __init__(
        self,
        topic: str,
        partitions: int,
        sender: Sender,
        clock: BrokerClock,
        metrics: FrameMetrics,
        max_waiting: int,
    ) -> None:
        self.partitions = partitions
        self._lanes = [
            Lane(partition, topic, sender, clock, metrics) for partition in range(partitions)
        ]
        self.max_waiting = max_waiting
        self._room = 0
        """At least so many more may wait; counted again only when it is used up."""

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
        if self.room(count) < count:
            raise OverloadedError
        self._room -= count
        self._lanes[partition].queue(pieces, deadline, answer, count)

    def room(self, wanted: int) -> int:
        """Return how many more may wait: exactly, or at least `wanted`."""
        if self._room < wanted:
            self._room = max(0, self.max_waiting - self.waiting)
        return self._room

    async def run(self) -> None:
        """Send frames until cancelled; then whatever still waits is not confirmed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(lane.run())
        finally:
            for lane in self._lanes:
                lane.give_up()
