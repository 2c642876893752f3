"""Publishing: every submission takes the lane of its entity's partition."""

import asyncio

import msgspec

from contract.frame import partition_of
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
        self._lanes = [
            Lane(partition, topic, sender, clock, metrics) for partition in range(partitions)
        ]
        self._max_waiting = max_waiting

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lanes))

    def submit(self, key: bytes, piece: msgspec.Raw, deadline: float) -> Answer:
        """Queue a submission of the entity `key` for its partition.

        Raises:
            OverloadedError: too many wait already.
        """
        if self.waiting >= self._max_waiting:
            raise OverloadedError
        return self._lanes[partition_of(key, len(self._lanes))].submit(piece, deadline)

    async def run(self) -> None:
        """Send frames until cancelled; then whatever still waits is not confirmed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(lane.run())
        finally:
            for lane in self._lanes:
                lane.give_up()
