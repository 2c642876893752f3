"""The idempotent producer of the changelog and of dead letters.

Faust's producer is idempotent only under exactly_once, and does not report acknowledgements.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownProducerId,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from contract.dead_letter import DeadLetterSource, encode_source
from processor.core.partition_state import OffsetRange
from processor.core.source_record import DeadLetter
from processor.core.write_batch import RecordBatch
from service.compression import compress_zstd
from service.config.settings import KafkaSettings
from service.kafka.aiokafka_compat.producer import acknowledged
from service.kafka.clients import client_options

log = structlog.get_logger(__name__)

DEAD_LETTER_BYTES = 512 * 1024
"""Size of a dead letter's value above which it is compressed: retention deletes the original first,
so a letter is written whole. The largest letters are of records that arrived compressed."""
MAX_DEAD_LETTER_BYTES = 1_000_000
"""Maximum size of a value as it is written, below the brokers' maximum. Only a record that does not
compress, and is itself as large as a broker accepts, exceeds it: the rest is cut off."""

STOP_TIMEOUT = 2.0
"""Seconds that a replaced producer may take to stop."""
PRODUCER_STATE_LOST = (OutOfOrderSequenceNumber, UnknownProducerId)
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
        try:
            await producer.start()
        except BaseException:  # also when it is cancelled, its connections must close
            await producer.stop()
            raise
        self._producer = producer

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def renew(self) -> None:
        """Replace the producer, because the brokers have lost its records."""
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.stop()
        await self.start()

    async def write(self, batches: Mapping[int, Iterable[RecordBatch]]) -> dict[int, WriteResult]:
        """Write the record batches of all partitions concurrently and await every acknowledgement.

        Kafka appends a record batch whole or not at all. The next one of a partition is sent after
        the previous one is acknowledged. There is no timeout: the caller
        sets one. After an error nothing more is written.

        Raises:
            KafkaError: some records may not have been written.
        """
        writing = (self._write(p, each) for p, each in batches.items())
        results = await asyncio.gather(*writing, return_exceptions=True)
        written = [each for each in results if isinstance(each, WriteResult)]
        if errors := [each for each in results if isinstance(each, BaseException)]:
            raise next(
                (each for each in errors if not isinstance(each, PRODUCER_STATE_LOST)), errors[0]
            )
        return dict(zip(batches, written, strict=True))

    async def _write(self, partition: int, batches: Iterable[RecordBatch]) -> WriteResult:
        offsets, appended = [], 0
        for records in batches:
            metadata = await acknowledged(await self._send(self._batch(records), partition))
            appended = max(appended, metadata.timestamp)
            if metadata.offset >= 0:  # else the broker has the batch but no longer knows its offset
                offsets.append((metadata.offset, metadata.offset + len(records)))
        return WriteResult(offsets, appended)

    def _batch(self, records: RecordBatch) -> BatchBuilder:
        """Build a record batch: sending records one by one costs 15 us each in aiokafka."""
        assert self._producer is not None, "the producer has not been started"
        now = round(time.time() * 1000)
        batch = self._producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=now, key=key, value=value, headers=headers) is None:
                raise MessageSizeTooLargeError(
                    f"{len(records)} records do not fit a batch, e.g. {key!r} of "
                    f"{len(value or b'')} bytes"
                )
        batch.close()
        return batch

    async def _send(self, batch: BatchBuilder, partition: int) -> asyncio.Future[RecordMetadata]:
        """Queue a batch after those of its partition, and let the producer start sending it."""
        assert self._producer is not None
        while True:
            try:
                future: asyncio.Future[RecordMetadata] = await self._producer.send_batch(
                    batch, self._changelog, partition=partition
                )
            except KafkaTimeoutError:  # it is not queued: an earlier batch waits for its leader
                log.warning("a batch waits for the previous one", partition=partition)
                continue
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
                value,
                partition=letter.record.partition,
                headers=encode_source(source),
            )
            for letter in dead_letters
            for source, value in [_encode_dead_letter(letter)]
        ]
        await asyncio.gather(*sent)


def _encode_dead_letter(letter: DeadLetter) -> tuple[DeadLetterSource, bytes]:
    """Return the source and the value to write."""
    source = DeadLetterSource(
        reason=letter.reason,
        offset=letter.record.offset,
        index=letter.index,
        appended=letter.record.appended_ms,
        shift=letter.record.shift,
    )
    size = len(letter.value)
    if size <= DEAD_LETTER_BYTES:
        return source, letter.value
    packed = compress_zstd(letter.value)
    if len(packed) <= MAX_DEAD_LETTER_BYTES:
        return msgspec.structs.replace(source, is_compressed=True), packed
    if size <= MAX_DEAD_LETTER_BYTES:
        return source, letter.value
    cut = letter.value[:MAX_DEAD_LETTER_BYTES]
    return msgspec.structs.replace(source, truncated_from=size), cut
