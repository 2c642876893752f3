"""The changelog's writer: an idempotent producer of our own.

Faust's producer is idempotent only under exactly_once, and acknowledges to nobody.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
from processor.core.write_batch import DeadLetter, Piece
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

    async def write(self, pieces: Mapping[int, Iterable[Piece]]) -> dict[int, WriteResult]:
        """Write the pieces of all partitions at once and await every acknowledgement.

        Kafka appends a piece, one record batch, whole or not at all. A partition's next piece is
        sent when the one before it is acknowledged. Waits for brokers as long as it takes: the
        caller has a deadline. Nothing is written any more when this has raised.

        Raises:
            KafkaError: some of it may not have been written.
        """
        writing = (self._write(p, each) for p, each in pieces.items())
        results = await asyncio.gather(*writing, return_exceptions=True)
        written = [each for each in results if isinstance(each, WriteResult)]
        if errors := [each for each in results if isinstance(each, BaseException)]:
            raise next((each for each in errors if not isinstance(each, FORGOTTEN)), errors[0])
        return dict(zip(pieces, written, strict=True))

    async def _write(self, partition: int, pieces: Iterable[Piece]) -> WriteResult:
        offsets, appended = [], 0
        for piece in pieces:
            answer = await (await self._send(self._batch(piece), partition))
            appended = max(appended, answer.timestamp)
            if answer.offset >= 0:  # else a broker that has it does not remember where
                offsets.append((answer.offset, answer.offset + len(piece)))
        return WriteResult(offsets, appended)

    def _batch(self, piece: Piece) -> BatchBuilder:
        """Make a record batch: records handed over one by one cost aiokafka 15 us each."""
        assert self._producer is not None, "the writer has not been started"
        now = round(time.time() * 1000)
        batch = self._producer.create_batch()
        for key, value, headers in piece:
            if batch.append(timestamp=now, key=key, value=value, headers=headers) is None:
                raise MessageSizeTooLargeError(
                    f"{len(piece)} records do not fit a batch, e.g. {key!r} of "
                    f"{len(value or b'')} bytes"
                )
        batch.close()
        return batch

    async def _send(self, batch: BatchBuilder, partition: int) -> asyncio.Future[RecordMetadata]:
        """Queue a batch behind those of its partition, and let the producer begin with it."""
        assert self._producer is not None
        while True:
            try:
                future: asyncio.Future[RecordMetadata] = await self._producer.send_batch(
                    batch, self._changelog, partition=partition
                )
            except KafkaTimeoutError:  # it is not queued; the one before it waits for its leader
                log.warning("a batch waits for the one before it", partition=partition)
                continue
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
