"""Writes anomalies to their topic on a best-effort basis.

Counters of anomalies are exact, the topic is not: a full queue drops anomalies, and write errors
are only logged. The producer has its own task, so a flush never waits for it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contract.anomaly import Anomaly, encode_anomaly
from contract.frame import entity_key
from processor.metrics import ProcessorMetrics
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)

MAX_QUEUED = 1_000
"""Maximum number of anomalies that wait to be written."""
MAX_IN_FLIGHT = 100
"""Maximum number of anomalies in one write."""
WRITE_TIMEOUT = 10.0
"""Seconds that a write may take."""
STOP_TIMEOUT = 2.0
"""Seconds that a producer may take to stop, as Kafka may be unavailable."""
RECONNECT_DELAY = 1.0
"""Seconds between a failure and the start of a new producer."""


class AnomalyProducer:
    """Writes the enqueued anomalies while `run` runs."""

    def __init__(self, settings: KafkaSettings, topic: str, metrics: ProcessorMetrics) -> None:
        self._settings = settings
        self._topic = topic
        self._metrics = metrics
        self._queue: deque[Anomaly] = deque()
        self._enqueued = asyncio.Event()

    def enqueue(self, anomalies: Iterable[Anomaly]) -> None:
        """Enqueue anomalies; those that do not fit are counted as dropped."""
        for anomaly in anomalies:
            if len(self._queue) < MAX_QUEUED:
                self._queue.append(anomaly)
            else:
                self._metrics.dropped_anomalies.inc()
        self._enqueued.set()

    async def run(self) -> None:
        """Write forever; drop anomalies while Kafka is unavailable."""
        while True:
            await self._wait()
            producer = AIOKafkaProducer(**client_options(self._settings), acks=1)
            try:
                await producer.start()
                while True:
                    await self._wait()
                    await self._write(producer)
            except (KafkaError, TimeoutError) as error:
                log.warning("could not write anomalies", reason=repr(error))
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_TIMEOUT):
                        await producer.stop()
            await asyncio.sleep(RECONNECT_DELAY)

    async def _wait(self) -> None:
        while not self._queue:
            self._enqueued.clear()
            await self._enqueued.wait()

    async def _write(self, producer: AIOKafkaProducer) -> None:
        """Write the oldest anomalies; whether or not it succeeds, they leave the queue."""
        batch = [self._queue.popleft() for _ in range(min(MAX_IN_FLIGHT, len(self._queue)))]
        written = 0
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                sent = [
                    await producer.send(
                        self._topic,
                        encode_anomaly(anomaly),
                        key=entity_key(anomaly.kind, anomaly.id),
                        partition=anomaly.partition,
                    )
                    for anomaly in batch
                ]
                for future in sent:
                    await future
                    written += 1
        finally:
            self._metrics.dropped_anomalies.inc(len(batch) - written)
