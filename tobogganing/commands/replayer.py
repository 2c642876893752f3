"""Sending dead letters again, through the submissions topic."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer

from contract.dead_letter import WHOLE_FRAME
from contract.frame import Submission, encode_frame, encode_submission, partition_of
from contract.position import Receipt
from contract.registry import RegistryState
from exporter.lookup import find_record
from service.kafka import client_options, topics_of
from service.reader import TopicReader
from service.registry import RegistryReader
from service.settings import KafkaSettings
from tobogganing.commands.letters import Letter
from tobogganing.commands.replaying import StaysError, check_registered, key_of, submissions_of

SHOWN = 20
"""Letters that stay and are named; the others are counted."""
AT_ONCE = 100
"""Frames that are on their way at a time."""
NEVER_LATE = 2**53
"""A replay keeps no promise about when it is applied: its timestamps are old."""

Letters = Callable[[], AsyncIterator[Letter]]


@dataclass
class Replay:
    """What became of letters."""

    letters: int = 0
    submissions: int = 0
    repeated: int = 0
    """Submissions that were there more than once, and were sent once."""
    staying: int = 0
    stay: list[dict[str, str]] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    """Of the first submissions that were sent."""

    def keep(self, letter: Letter, why: str) -> None:
        self.staying += 1
        if len(self.stay) < SHOWN:
            self.stay.append({"id": str(letter.id), "why": why})

    def document(self) -> dict[str, Any]:
        return {
            "letters": self.letters,
            "submissions": self.submissions,
            "repeated": self.repeated,
            "staying": self.staying,
            "stay": self.stay,
            "receipts": self.receipts,
        }


async def replay(settings: KafkaSettings, letters: Letters) -> Replay:
    """Send letters again; they are read twice. What stays is counted with its reason.

    Raises:
        KafkaError: Kafka does not answer. Some may have been sent: doing it again is harmless.
    """
    done = Replay()
    registry = await _registry(settings, await _keys(settings, letters))
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sender = _Sender(settings, producer, done)
        async for letter in letters():
            try:
                found = await _taken_apart(settings, letter)
            except StaysError as error:
                done.keep(letter, str(error))
                continue
            if await sender.send(_holding(found, registry, letter, done)):
                done.letters += 1
        await sender.settle()
    finally:
        await producer.stop()
    return done


def _holding(
    found: list[Submission], registry: RegistryState, letter: Letter, done: Replay
) -> list[Submission]:
    """What of a letter may be sent; it is named once if some may not."""
    good, why = [], ""
    for submission in found:
        try:
            check_registered(submission, registry)
        except StaysError as error:
            why = why or str(error)
        else:
            good.append(submission)
    if why:
        done.keep(letter, why)
    return good


class _Sender:
    def __init__(self, settings: KafkaSettings, producer: AIOKafkaProducer, done: Replay) -> None:
        self._topic = topics_of(settings).submissions.name
        self._partitions = settings.kafka_partitions
        self._producer = producer
        self._done = done
        self._sent: list[tuple[int, asyncio.Future[Any]]] = []
        self._seen: set[bytes] = set()

    async def send(self, submissions: list[Submission]) -> bool:
        """Send what was not sent before, in a frame for each partition; tell if anything was new.

        A letter that was replayed in vain has a second letter with the same content: without this
        the letters would double with each replay.
        """
        frames: dict[int, list[Submission]] = {}
        for submission in submissions:
            encoded = encode_submission(submission)
            digest = hashlib.blake2b(encoded, digest_size=16).digest()
            if digest in self._seen:
                self._done.repeated += 1
                continue
            self._seen.add(digest)
            partition = partition_of(key_of(submission), self._partitions)
            frames.setdefault(partition, []).append(submission)
        for partition, members in frames.items():
            frame = encode_frame(NEVER_LATE, members)
            future = await self._producer.send(self._topic, frame, partition=partition)
            self._sent.append((len(members), future))
        if len(self._sent) >= AT_ONCE:
            await self.settle()
        return bool(frames)

    async def settle(self) -> None:
        """Wait for Kafka's acknowledgements."""
        for count, future in self._sent:
            answer = await future
            self._done.submissions += count
            first = Receipt(answer.partition, answer.offset, 0, answer.timestamp)
            room = max(0, SHOWN - len(self._done.receipts))
            self._done.receipts += [str(first.behind(n)) for n in range(min(count, room))]
        self._sent.clear()


async def _taken_apart(settings: KafkaSettings, letter: Letter) -> list[Submission]:
    value = letter.value
    if letter.origin.truncated_from is not None and letter.origin.index == WHOLE_FRAME:
        origin = letter.origin
        sought = await find_record(settings, letter.id.partition, origin.source_offset)
        if sought.record is None or sought.record.timestamp != origin.appended:
            raise StaysError("it holds only the beginning of a frame, which Kafka has no more")
        value = sought.record.value or b""
    return submissions_of(letter, value)


async def _keys(settings: KafkaSettings, letters: Letters) -> set[bytes]:
    """Keys of the entities that letters are about."""
    keys = set()
    async for letter in letters():
        try:
            for submission in await _taken_apart(settings, letter):
                keys.add(key_of(submission))
        except StaysError:
            pass  # the second reading says so
    return keys


async def _registry(settings: KafkaSettings, keys: set[bytes]) -> RegistryState:
    """What the registry says of some entities."""
    registry = RegistryReader(settings)
    async with TopicReader(settings, topics_of(settings).registry.name, [0]) as reader:
        await reader.read_to_end(
            lambda p, records: registry.apply(p, [each for each in records if each.key in keys]), {}
        )
    return registry.state
