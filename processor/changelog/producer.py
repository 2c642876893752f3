"""The idempotent producer of the changelog and of dead letters.

Faust's producer is idempotent only under exactly_once, and does not report acknowledgements.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownProducerId,
)

from contract.dead_letter import DeadLetterSource, encode_source
from processor.core.partition_state import OffsetRange
from processor.core.write_batch import ChangelogRecord, DeadLetter
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)

DEAD_LETTER_BYTES = 512 * 1024
"""Maximum size of a dead letter's value; a compressed record may exceed the size that can be
written. The letter's offset identifies the original, which the submissions topic retains for the
same time."""

STOP_WITHIN = 2.0
"""Seconds that a replaced producer may take to stop."""
FORGOTTEN = (OutOfOrderSequenceNumber, UnknownProducerId)
"""Errors of brokers that have lost this producer's last records."""

_BATCH_BYTES = 1024 * 1024
"""Size of a batch, close to the brokers' maximum."""
_REQUEST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class WriteResult:
    """Acknowledgements of one partition: its offsets and the newest append time (ms)."""

    offsets: list[OffsetRange]
    appended_ms: int


class ChangelogProducer:
    """Writes changes and dead letters; returns after Kafka has acknowledged all of them."""

    def __init__(self, settings: KafkaSettings, changelog: str, dead_letters: str) -> None:
        self._settings = settings
        self._changelog = changelog
        self._dead_letters = dead_letters
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
        )
        await producer.start()
        self._producer = producer

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def renew(self) -> None:
        """Replace the producer, because the brokers have lost its records."""
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await self.stop()
        await self.start()

    async def write(
        self, records: Mapping[int, Iterable[ChangelogRecord]]
    ) -> dict[int, WriteResult]:
        """Write the records of all partitions concurrently and await every acknowledgement.

        There is no timeout: the caller sets one.

        Raises:
            KafkaError: some records may not have been written.
        """
        written = await asyncio.gather(*(self._write(p, each) for p, each in records.items()))
        return dict(zip(records, written, strict=True))

    async def _write(self, partition: int, records: Iterable[ChangelogRecord]) -> WriteResult:
        """Write records in whole batches: sending them one by one costs 15 us each in aiokafka."""
        assert self._producer is not None, "the producer has not been started"
        now = round(time.time() * 1000)
        sent = []
        batch = self._producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=now, key=key, value=value, headers=headers) is None:
                sent.append((batch, await self._send(batch, partition)))
                batch = self._producer.create_batch()
                if batch.append(timestamp=now, key=key, value=value, headers=headers) is None:
                    raise MessageSizeTooLargeError(f"{key!r} has {len(value or b'')} bytes")
        if batch.record_count():
            sent.append((batch, await self._send(batch, partition)))
        offsets, appended = [], 0
        for batch, future in sent:
            metadata = await future
            appended = max(appended, metadata.timestamp)
            if metadata.offset >= 0:  # else the broker has the batch but no longer knows its offset
                offsets.append((metadata.offset, metadata.offset + batch.record_count()))
        return WriteResult(offsets, appended)

    async def _send(self, batch: Any, partition: int) -> asyncio.Future[Any]:
        """Queue a batch after those of its partition, and let the producer start sending it."""
        assert self._producer is not None
        batch.close()
        while True:
            try:
                future: asyncio.Future[Any] = await self._producer.send_batch(
                    batch, self._changelog, partition=partition
                )
            except KafkaTimeoutError:  # it is not queued: an earlier batch waits for its leader
                log.warning("a batch waits for the previous one", partition=partition)
                continue
            await asyncio.sleep(0)
            return future

    async def write_dead_letters(self, dead_letters: list[DeadLetter]) -> None:
        """Write dead letters and await every acknowledgement.

        Raises:
            KafkaError: some letters may not have been written.
        """
        assert self._producer is not None, "the producer has not been started"
        sent = [
            await self._producer.send(
                self._dead_letters,
                letter.value[:DEAD_LETTER_BYTES],
                partition=letter.record.partition,
                headers=_headers(letter),
            )
            for letter in dead_letters
        ]
        await asyncio.gather(*sent)


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    size = len(letter.value)
    return encode_source(
        DeadLetterSource(
            reason=letter.reason,
            offset=letter.record.offset,
            index=letter.index,
            appended=letter.record.appended_ms,
            truncated_from=size if size > DEAD_LETTER_BYTES else None,
            shift=letter.record.shift,
        )
    )
