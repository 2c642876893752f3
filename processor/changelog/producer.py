"""The changelog's writer: an idempotent producer of our own.

Faust's producer is idempotent only under exactly_once, and acknowledges to nobody.
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
"""What is kept of a dead letter: a compressed record may be larger than any that may be written.
Its offset names the original, which stays in the submissions topic for as long."""

STOP_WITHIN = 2.0
"""Seconds that a producer which is replaced gets to stop."""
FORGOTTEN = (OutOfOrderSequenceNumber, UnknownProducerId)
"""How brokers refuse a producer whose last records they have lost."""

_BATCH_BYTES = 1024 * 1024
"""Size of a batch of records: about what brokers take at most."""
_REQUEST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class WriteResult:
    """Acknowledgements of one partition: offsets given, and the newest append time (in ms)."""

    offsets: list[OffsetRange]
    appended_ms: int


class ChangelogProducer:
    """Writes changes and dead letters; returns only when Kafka has acknowledged all of them."""

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
        """Continue with a new producer: the brokers know nothing of this one's records any more."""
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await self.stop()
        await self.start()

    async def write(
        self, records: Mapping[int, Iterable[ChangelogRecord]]
    ) -> dict[int, WriteResult]:
        """Write the records of all partitions at once and await every acknowledgement.

        Waits for brokers as long as it takes: the caller has a deadline.

        Raises:
            KafkaError: some of it may not have been written.
        """
        written = await asyncio.gather(*(self._write(p, each) for p, each in records.items()))
        return dict(zip(records, written, strict=True))

    async def _write(self, partition: int, records: Iterable[ChangelogRecord]) -> WriteResult:
        """Write whole batches of records: handed over one by one each costs aiokafka 15 us."""
        assert self._producer is not None, "the writer has not been started"
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
            answer = await future
            appended = max(appended, answer.timestamp)
            if answer.offset >= 0:  # else a broker that has it does not remember where
                offsets.append((answer.offset, answer.offset + batch.record_count()))
        return WriteResult(offsets, appended)

    async def _send(self, batch: Any, partition: int) -> asyncio.Future[Any]:
        """Queue a batch behind those of its partition, and let the producer begin with it."""
        assert self._producer is not None
        batch.close()
        while True:
            try:
                future: asyncio.Future[Any] = await self._producer.send_batch(
                    batch, self._changelog, partition=partition
                )
            except KafkaTimeoutError:  # it is not queued; the one before it waits for its leader
                log.warning("a batch waits for the one before it", partition=partition)
                continue
            await asyncio.sleep(0)
            return future

    async def write_dead_letters(self, dead_letters: list[DeadLetter]) -> None:
        """Write dead letters and await every acknowledgement.

        Raises:
            KafkaError: some of it may not have been written.
        """
        assert self._producer is not None, "the writer has not been started"
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
