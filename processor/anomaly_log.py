"""The anomaly log: tells of anomalies in a topic, as well as it can.

Counting is exact, telling is not: a queue that is full drops, and Kafka's refusal is only logged.
It has a producer and a task of its own, so that a flush never waits for it.
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
from service.kafka import client_options
from service.settings import KafkaSettings

log = structlog.get_logger(__name__)

WAITING = 1_000
"""Most anomalies that wait to be written."""
AT_ONCE = 100
"""Most that are on their way at a time."""
PATIENCE = 10.0
"""Seconds that a write may take before it is given up."""
STOP_PATIENCE = 2.0
"""Seconds that a producer gets to stop: Kafka may be away."""
PAUSE = 1.0
"""Seconds before a producer is made anew, after one that failed."""


class AnomalyLog:
    """Writes what it is told of, while `run` runs."""

    def __init__(self, settings: KafkaSettings, topic: str, metrics: ProcessorMetrics) -> None:
        self._settings = settings
        self._topic = topic
        self._metrics = metrics
        self._waiting: deque[Anomaly] = deque()
        self._told = asyncio.Event()

    def tell(self, anomalies: Iterable[Anomaly]) -> None:
        """Take anomalies to write soon; those that do not fit are counted as dropped."""
        for anomaly in anomalies:
            if len(self._waiting) < WAITING:
                self._waiting.append(anomaly)
            else:
                self._metrics.dropped_anomalies.inc()
        self._told.set()

    async def run(self) -> None:
        """Write for ever; while Kafka is away, drop."""
        while True:
            await self._wait()
            producer = AIOKafkaProducer(**client_options(self._settings), acks=1)
            try:
                await producer.start()
                while True:
                    await self._wait()
                    await self._write(producer)
            except (KafkaError, TimeoutError) as error:
                log.warning("anomalies could not be written", reason=repr(error))
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_PATIENCE):
                        await producer.stop()
            await asyncio.sleep(PAUSE)

    async def _wait(self) -> None:
        while not self._waiting:
            self._told.clear()
            await self._told.wait()

    async def _write(self, producer: AIOKafkaProducer) -> None:
        """Write the oldest; whatever happens, they wait no longer."""
        batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        written = 0
        try:
            async with asyncio.timeout(PATIENCE):
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
