"""The Kafka producer of the process, which is replaced whenever it fails.

aiokafka's idempotent producer has states that it never leaves. A batch that failed without being
sent leaves a gap in the sequence numbers, and the broker refuses all later batches. A fenced or
dead sender refuses everything. It also retries forever, even if the brokers are gone. Therefore any
failure, and any send that takes longer than `send_timeout`, retires the producer, and a new one
with a new producer id takes over.
"""

import asyncio
import time
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import Counter

from gateway.produce.ack_monitor import AckMonitor
from gateway.produce.cluster_time import ClusterTime
from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.producer import abandon, acknowledged
from service.kafka.aiokafka_compat.zstd_codec import zstd_batch
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)

MAX_BATCH_BYTES = 512 * 1024
"""Records that do not fit into aiokafka's current batch wait, and all of them wake whenever a batch
is sent: with its default of 16 KiB, thousands of concurrent registrations take quadratic time."""

Headers = Sequence[tuple[str, bytes]]


class RecordMetadata(NamedTuple):
    """Offset of a record, and its append time in milliseconds of the broker's clock."""

    offset: int
    timestamp: int


class KeyedRecord(NamedTuple):
    """A record to send."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class SendError(Exception):
    """Kafka did not confirm a record. It may have appended it, or may append it later."""


class ResilientProducer:
    """Sends records; `run` keeps a producer connected."""

    send_timeout: float = 12.0
    """Seconds after which a send fails; longer than any deadline, so that no confirmation is
    missed."""
    reconnect_delay: float = 0.5
    """Seconds between two attempts to connect."""
    retire_timeout: float = 5.0
    """Seconds that a failed producer gets to complete its other sends."""
    stop_timeout: float = 1.0

    def __init__(
        self, settings: KafkaSettings, failures: Counter, compressed: Collection[str] = ()
    ) -> None:
        """`compressed` are the topics whose records `send` compresses."""
        self._settings = settings
        self._compressed = compressed
        self._failures = failures
        self.ack_monitor = AckMonitor()
        self.time = ClusterTime()
        self._producer: AIOKafkaProducer | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        return self._producer is not None

    async def wait_until_ready(self) -> None:
        """Wait until a producer is connected."""
        while self._producer is None:
            await self._connected.wait()

    async def run(self) -> None:
        """Keep a producer connected until cancelled."""
        try:
            while True:
                self._broken.clear()
                self._producer = await self._connect()
                self._connected.set()
                await self._broken.wait()
                self._failures.inc()
                await asyncio.sleep(self.reconnect_delay)
        finally:
            if self._producer is not None:
                self._retire(self._producer, self.stop_timeout)
            await asyncio.gather(*self._retiring, return_exceptions=True)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> RecordMetadata:
        """Send a record and wait until all in-sync replicas have it.

        Raises:
            SendError: Kafka did not confirm the record.
        """
        producer, began = self._require_producer(), time.monotonic()
        sending = self._send(producer, topic, partition, KeyedRecord(key, value, headers))
        metadata = await self._confirmed(producer, sending, began, topic, partition)
        acknowledged_at = time.monotonic()
        self.ack_monitor.on_acknowledged(acknowledged_at)
        if metadata.offset < 0 or metadata.timestamp_type != 1:
            # The broker recognised a duplicate of a record whose position it no longer knows.
            raise SendError("Kafka confirmed the record without its offset and append time")
        self.time.observe((topic, partition), metadata.timestamp, acknowledged_at - began)
        return RecordMetadata(metadata.offset, metadata.timestamp)

    def _require_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise SendError("there is no connection to Kafka")
        return self._producer

    async def _confirmed(
        self,
        producer: AIOKafkaProducer,
        sending: Coroutine[Any, Any, Any],
        began: float,
        topic: str,
        partition: int,
    ) -> Any:
        """Wait for a producer's confirmation, and replace the producer if it fails.

        Raises:
            SendError: Kafka did not confirm in time.
        """
        self.ack_monitor.on_sent(began)
        try:
            async with asyncio.timeout(self.send_timeout):
                return await sending
        except asyncio.CancelledError:
            self.ack_monitor.on_failed(began)
            raise
        except Exception as error:  # aiokafka also raises AssertionError, if it lacks a partition
            self.ack_monitor.on_failed(began)
            log.warning("producer failed", topic=topic, partition=partition, reason=repr(error))
            self._fail(producer)
            raise SendError(f"Kafka did not confirm: {error!r}") from error

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, partition: int, record: KeyedRecord
    ) -> Any:
        """Send a record; return aiokafka's metadata of its acknowledgement."""
        key, value, headers = record
        if topic not in self._compressed:
            return await (
                await producer.send(
                    topic, value, key=key, partition=partition, headers=list(headers)
                )
            )
        batch = zstd_batch(MAX_BATCH_BYTES)
        batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        batch.close()
        return await self._send_batch(producer, topic, partition, batch)

    async def send_all(self, topic: str, records: Sequence[KeyedRecord], *, partition: int) -> None:
        """Send records in as few batches as they fit into, and wait until all in-sync replicas
        have them: a tenth of what one `send` for each costs.

        Raises:
            SendError: Kafka did not confirm all of them.
        """
        left = list(reversed(records))
        while left:
            producer, began = self._require_producer(), time.monotonic()
            batch = producer.create_batch()
            while left:
                key, value, headers = left[-1]
                if not batch.append(timestamp=None, key=key, value=value, headers=list(headers)):
                    break
                left.pop()
            sending = self._send_batch(producer, topic, partition, batch)
            await self._confirmed(producer, sending, began, topic, partition)
            self.ack_monitor.on_acknowledged(time.monotonic())

    async def _send_batch(
        self, producer: AIOKafkaProducer, topic: str, partition: int, batch: BatchBuilder
    ) -> Any:
        if not batch.record_count():
            raise ValueError("a record is larger than a batch")
        return await acknowledged(await producer.send_batch(batch, topic, partition=partition))

    async def _connect(self) -> AIOKafkaProducer:
        while True:
            producer = AIOKafkaProducer(
                **client_options(self._settings),
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                max_batch_size=MAX_BATCH_BYTES,
            )
            try:
                # Without a timeout, it would request a producer id forever.
                async with asyncio.timeout(self.send_timeout):
                    await producer.start()
                return producer
            except BaseException as error:  # also when cancelled, its connections must close
                await self._stop(producer, self.stop_timeout)
                if not isinstance(error, Exception):
                    raise
                log.warning("waiting for Kafka", reason=repr(error))
            await asyncio.sleep(self.reconnect_delay)

    def _fail(self, producer: AIOKafkaProducer) -> None:
        if producer is self._producer:
            self._retire(producer, self.retire_timeout)
            self._broken.set()

    def _retire(self, producer: AIOKafkaProducer, timeout: float) -> None:
        """Stop a producer in the background, because its other sends may still succeed."""
        self._producer = None
        self._connected.clear()
        task = asyncio.create_task(self._stop(producer, timeout), name="retire producer")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _stop(self, producer: AIOKafkaProducer, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await producer.stop()
        except Exception as error:  # whatever fails, its connections must close
            log.info("producer abandoned", reason=repr(error))
            await abandon(producer)
