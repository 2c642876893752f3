"""The changelog's writer: an idempotent producer of our own.

Faust's producer is idempotent only under exactly_once, and acknowledges to nobody.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from processor.fold import Change, DeadLetter
from service.kafka import client_options
from service.settings import KafkaSettings

DEAD_LETTER_BYTES = 512 * 1024
"""What is kept of a dead letter: a compressed record may be larger than any that may be written.
Its offset names the original, which stays in the submissions topic for as long."""
REASON_CHARACTERS = 1000

_BATCH_BYTES = 1024 * 1024
_REQUEST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Written:
    """Acknowledgements of one partition: offsets given, and the newest append time (in ms)."""

    offsets: list[int]
    appended: int


class Writer:
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

    async def write(self, changes: Mapping[int, Mapping[bytes, Change]]) -> dict[int, Written]:
        """Write the changes of all partitions at once and await every acknowledgement.

        Raises:
            KafkaError: some of it may not have been written.
        """
        assert self._producer is not None, "the writer has not been started"
        sent = {}
        for partition, by_key in changes.items():
            sent[partition] = [
                await self._producer.send(
                    self._changelog,
                    change.value,
                    key=key,
                    partition=partition,
                    headers=list(change.headers),
                )
                for key, change in by_key.items()
            ]
        written = {}
        for partition, futures in sent.items():
            answers = await asyncio.gather(*futures)
            written[partition] = Written(
                [answer.offset for answer in answers],
                max((answer.timestamp for answer in answers), default=0),
            )
        return written

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
    headers = {
        "reason": letter.reason[:REASON_CHARACTERS],
        "offset": str(letter.record.offset),
        "index": str(letter.index),
        "appended": str(letter.record.appended),
    }
    if len(letter.value) > DEAD_LETTER_BYTES:
        headers["truncated-from"] = str(len(letter.value))
    return [(name, text.encode("utf-8", "replace")) for name, text in headers.items()]
