"""What of a dead letter may be sent again. Pure."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from contract.dead_letter import CORRUPT_ROW, WHOLE_FRAME
from contract.frame import (
    FrameError,
    Submission,
    decode_frame,
    encode_frame,
    encode_submission,
    entity_key,
    partition_of,
)
from contract.kinds import KINDS, is_id
from contract.position import Receipt
from contract.registry import RegistryState
from exporter.receipts.lookup import find_record
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.registry import RegistryReader
from service.kafka.topics import topics_from
from tobogganing.dead_letters.dead_letter import DeadLetterRecord

_decoder = msgspec.json.Decoder(Submission)


class NotReplayableError(ValueError):
    """A letter, or a submission of it, that cannot be sent again; the text says why."""


def split_submissions(letter: DeadLetterRecord, value: bytes) -> list[Submission]:
    """Take a letter apart; `value` is all of its data.

    What has no timestamp of its own gets the append time that it had: so it never takes the place
    of newer data, however often it is sent.

    Raises:
        StaysError: it is nothing that can be sent.
    """
    if letter.origin.index == WHOLE_FRAME:
        try:
            frame = decode_frame(value)
        except FrameError as error:
            raise NotReplayableError(str(error)) from None
        if frame.is_late(letter.origin.appended):
            raise NotReplayableError("it came after its deadline, and was answered 503")
        found = frame.submissions
    elif letter.origin.index >= 0:
        try:
            found = [_decoder.decode(value)]
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise NotReplayableError(f"not a submission: {error}") from None
    elif letter.origin.index == CORRUPT_ROW:
        raise NotReplayableError("it is a row, kept to be looked at")
    else:
        raise NotReplayableError("it does not say where it comes from")
    for submission in found:
        if submission.timestamp is None:
            submission.timestamp = letter.origin.appended / 1000
    return found


def key_of(submission: Submission) -> bytes:
    """Key of the entity that a submission is about.

    Raises:
        StaysError: it is none known here.
    """
    if submission.kind not in KINDS or not is_id(submission.id):
        raise NotReplayableError(f"{submission.kind}:{submission.id} is no entity known here")
    return entity_key(submission.kind, submission.id)


def check_registered(submission: Submission, registry: RegistryState) -> None:
    """Pass if the registration that a submission was made under still holds.

    The processor remembers a removal for as long as entities are kept, dead letters for longer:
    without this one of them could bring an entity back. A removal may always be sent again.

    Raises:
        StaysError: it does not.
    """
    key = key_of(submission)
    record = registry.get(key)
    if submission.removed:
        return
    if record is None:
        raise NotReplayableError(f"{key.decode()} is not registered any more")
    if record.incarnation != submission.incarnation:
        raise NotReplayableError(f"{key.decode()} was registered anew since")


SHOWN = 20
"""Letters that stay and are named; the others are counted."""
AT_ONCE = 100
"""Frames that are on their way at a time."""
NEVER_LATE = 2**53
"""A replay keeps no promise about when it is applied: its timestamps are old."""

Letters = Callable[[], AsyncIterator[DeadLetterRecord]]


@dataclass
class ReplayReport:
    """What became of letters."""

    letters: int = 0
    submissions: int = 0
    repeated: int = 0
    """Submissions that were there more than once, and were sent once."""
    skipped: int = 0
    skip_reasons: list[dict[str, str]] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    """Of the first submissions that were sent."""

    def add_skipped(self, letter: DeadLetterRecord, why: str) -> None:
        self.skipped += 1
        if len(self.skip_reasons) < SHOWN:
            self.skip_reasons.append({"id": str(letter.id), "why": why})

    def document(self) -> dict[str, Any]:
        return {
            "letters": self.letters,
            "submissions": self.submissions,
            "repeated": self.repeated,
            "staying": self.skipped,
            "stay": self.skip_reasons,
            "receipts": self.receipts,
        }


async def replay(settings: KafkaSettings, letters: Letters) -> ReplayReport:
    """Send letters again; they are read twice. What stays is counted with its reason.

    Raises:
        KafkaError: Kafka does not answer. Some may have been sent: doing it again is harmless.
    """
    done = ReplayReport()
    registry = await _registry(settings, await _keys(settings, letters))
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sender = _ReplayProducer(settings, producer, done)
        async for letter in letters():
            try:
                found = await _submissions_of(settings, letter)
            except NotReplayableError as error:
                done.add_skipped(letter, str(error))
                continue
            if await sender.send(_replayable(found, registry, letter, done)):
                done.letters += 1
        await sender.settle()
    finally:
        await producer.stop()
    return done


def _replayable(
    found: list[Submission], registry: RegistryState, letter: DeadLetterRecord, done: ReplayReport
) -> list[Submission]:
    """What of a letter may be sent; it is named once if some may not."""
    good, why = [], ""
    for submission in found:
        try:
            check_registered(submission, registry)
        except NotReplayableError as error:
            why = why or str(error)
        else:
            good.append(submission)
    if why:
        done.add_skipped(letter, why)
    return good


class _ReplayProducer:
    def __init__(
        self, settings: KafkaSettings, producer: AIOKafkaProducer, done: ReplayReport
    ) -> None:
        self._topic = topics_from(settings).submissions.name
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
            self._done.receipts += [str(first.advance(n)) for n in range(min(count, room))]
        self._sent.clear()


async def _submissions_of(settings: KafkaSettings, letter: DeadLetterRecord) -> list[Submission]:
    value = letter.value
    if letter.origin.truncated_from is not None and letter.origin.index == WHOLE_FRAME:
        source = letter.origin
        sought = await find_record(settings, letter.id.partition, source.source_offset)
        if sought.record is None or sought.record.timestamp != source.appended:
            raise NotReplayableError(
                "it holds only the beginning of a frame, which Kafka has no more"
            )
        value = sought.record.value or b""
    return split_submissions(letter, value)


async def _keys(settings: KafkaSettings, letters: Letters) -> set[bytes]:
    """Keys of the entities that letters are about."""
    keys = set()
    async for letter in letters():
        try:
            for submission in await _submissions_of(settings, letter):
                keys.add(key_of(submission))
        except NotReplayableError:
            pass  # the second reading says so
    return keys


async def _registry(settings: KafkaSettings, keys: set[bytes]) -> RegistryState:
    """What the registry says of some entities."""
    registry = RegistryReader(settings)
    async with TopicReader(settings, topics_from(settings).registry.name, [0]) as reader:
        await reader.read_to_end(
            lambda p, records: registry.apply(p, [each for each in records if each.key in keys]), {}
        )
    return registry.state
