"""Writes records that may be dropped, without delaying anything else.

The producer has its own task and its own connections, so that neither a slow broker nor a missing
permission for its topic affects what a service must write. It connects when there is something to
write. A full queue drops records, and write errors are only logged.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)

MAX_QUEUED = 1_000
"""Maximum number of records that wait to be written."""
MAX_IN_FLIGHT = 100
"""Maximum number of records in one write."""
WRITE_TIMEOUT = 10.0
"""Seconds that a write may take."""
STOP_TIMEOUT = 2.0
"""Seconds that a producer may take to stop, as Kafka may be unavailable."""
RECONNECT_DELAY = 1.0
"""Seconds between a failure and the start of a new producer."""


class PartitionRecord(NamedTuple):
    """A record to write; without a value it is a tombstone."""

    partition: int
    key: bytes
    value: bytes | None


class BestEffortProducer:
    """Writes the enqueued records while `run` runs.

    `on_written` and `on_dropped` are called with numbers of records.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        on_dropped: Callable[[int], None],
        on_written: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._on_dropped = on_dropped
        self._on_written = on_written
        self._queue: deque[PartitionRecord] = deque()
        self._enqueued = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def capacity(self) -> int:
        """Number of records that the queue can still take."""
        return MAX_QUEUED - len(self._queue)

    def enqueue(self, records: Iterable[PartitionRecord]) -> None:
        """Enqueue records; those that do not fit are dropped."""
        dropped = 0
        for record in records:
            if len(self._queue) < MAX_QUEUED:
                self._queue.append(record)
            else:
                dropped += 1
        if dropped:
            self._on_dropped(dropped)
        if self._queue:
            self._drained.clear()
            self._enqueued.set()

    async def wait_until_drained(self) -> None:
        """Wait until everything that was enqueued is written or dropped."""
        await self._drained.wait()

    async def run(self) -> None:
        """Write forever; drop records while Kafka is unavailable."""
        while True:
            await self._wait()
            producer = AIOKafkaProducer(**client_options(self._settings), acks=1)
            try:
                await producer.start()
                while True:
                    await self._wait()
                    await self._write(producer)
            except (KafkaError, TimeoutError) as error:
                log.warning("could not write records", topic=self._topic, reason=repr(error))
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_TIMEOUT):
                        await producer.stop()
            await asyncio.sleep(RECONNECT_DELAY)

    async def _wait(self) -> None:
        while not self._queue:
            self._enqueued.clear()
            self._drained.set()
            await self._enqueued.wait()

    async def _write(self, producer: AIOKafkaProducer) -> None:
        """Write the oldest records; whether or not it succeeds, they leave the queue."""
        batch = [self._queue.popleft() for _ in range(min(MAX_IN_FLIGHT, len(self._queue)))]
        written = 0
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                sent = [
                    await producer.send(
                        self._topic, record.value, key=record.key, partition=record.partition
                    )
                    for record in batch
                ]
                for future in sent:
                    await future
                    written += 1
        finally:
            self._on_written(written)
            if written < len(batch):
                self._on_dropped(len(batch) - written)
