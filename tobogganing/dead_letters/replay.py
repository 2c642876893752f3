"""Replay: the submissions of dead letters are written to the submissions topic again."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from contract.dead_letter import CORRUPT_ROW, WHOLE_FRAME
from contract.decoding import DECODE_ERRORS
from contract.entity import entity_key, partition_of
from contract.frame import FrameError, Submission, decode_frame, encode_frame, encode_submission
from contract.kinds import KINDS, is_id
from contract.position import Receipt
from contract.registry_state import RegistryState
from exporter.receipts.lookup import find_record
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.reader import TopicReader
from service.kafka.registry import RegistryReader
from service.kafka.topics import topics_from
from tobogganing.dead_letters.dead_letter import DeadLetterRecord

_decoder = msgspec.json.Decoder(Submission)

SHOWN = 20
"""Skipped dead letters that a report lists; the others are only counted."""
IN_FLIGHT = 100
"""Unacknowledged frames, at most."""
NEVER_LATE = 2**53
"""A replay has no deadline: its timestamps are old."""

Letters = Callable[[], AsyncIterator[DeadLetterRecord]]


class NotReplayableError(ValueError):
    """A dead letter, or a submission of it, cannot be replayed; the text says why."""


def split_submissions(letter: DeadLetterRecord, value: bytes) -> list[Submission]:
    """The submissions in a dead letter; `value` is its complete data.

    A submission without a timestamp gets its first append time, so that it never replaces newer
    data.

    Raises:
        NotReplayableError: the dead letter contains no submission that can be replayed.
    """
    if letter.origin.index == WHOLE_FRAME:
        try:
            frame = decode_frame(value)
        except FrameError as error:
            raise NotReplayableError(str(error)) from None
        if frame.is_late(letter.origin.appended):
            raise NotReplayableError("it came after its deadline: the response was 503")
        found = frame.submissions
    elif letter.origin.index >= 0:
        try:
            found = [_decoder.decode(value)]
        except DECODE_ERRORS as error:
            raise NotReplayableError(f"not a submission: {error}") from None
    elif letter.origin.index == CORRUPT_ROW:
        raise NotReplayableError("it is a row, kept for inspection")
    else:
        raise NotReplayableError("it does not say where it comes from")
    for submission in found:
        if submission.timestamp is None:
            submission.timestamp = letter.origin.appended / 1000
    return found


def key_of(submission: Submission) -> bytes:
    """The key of a submission's entity.

    Raises:
        NotReplayableError: the kind or the id is unknown.
    """
    if submission.kind not in KINDS or not is_id(submission.id):
        raise NotReplayableError(f"{submission.kind}:{submission.id} is not a known entity")
    return entity_key(submission.kind, submission.id)


def check_registered(submission: Submission, registry: RegistryState) -> None:
    """Check that the registration of a submission is still the current one.

    Dead letters are kept longer than the processor remembers a removal: without this check one
    could bring a removed entity back. A removal can always be replayed.

    Raises:
        NotReplayableError: the entity was removed, or registered again.
    """
    key = key_of(submission)
    record = registry.get(key)
    if submission.removed:
        return
    if record is None:
        raise NotReplayableError(f"{key.decode()} is no longer registered")
    if record.incarnation != submission.incarnation:
        raise NotReplayableError(f"{key.decode()} was registered again since")


@dataclass
class ReplayReport:
    """The outcome of a replay."""

    read: int = 0
    """Dead letters read: `letters` + `copies` + `skipped`."""
    letters: int = 0
    """Dead letters of which all submissions were sent."""
    copies: int = 0
    """Dead letters with nothing but copies of submissions that were sent."""
    submissions: int = 0
    repeated: int = 0
    """Further copies of a submission, which was sent once."""
    skipped: int = 0
    """Dead letters of which at least one submission was not sent."""
    skip_reasons: list[dict[str, str]] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    """The receipts of the first submissions."""

    def add_skipped(self, letter: DeadLetterRecord, why: str) -> None:
        self.skipped += 1
        if len(self.skip_reasons) < SHOWN:
            self.skip_reasons.append({"id": str(letter.id), "why": why})

    def document(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "letters": self.letters,
            "copies": self.copies,
            "submissions": self.submissions,
            "repeated": self.repeated,
            "staying": self.skipped,
            "stay": self.skip_reasons,
            "receipts": self.receipts,
        }


async def replay(settings: KafkaSettings, letters: Letters) -> ReplayReport:
    """Replay dead letters; they are read twice. Skipped ones are counted with their reasons.

    Raises:
        KafkaError: Kafka does not respond. Some may have been sent; the replay can be repeated.
    """
    report = ReplayReport()
    registry = await _registry(settings, await _keys(settings, letters))
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sender = _ReplayProducer(settings, producer, report)
        async for letter in letters():
            report.read += 1
            try:
                found = await _submissions_of(settings, letter)
            except NotReplayableError as error:
                report.add_skipped(letter, str(error))
                continue
            good, why = _replayable(found, registry)
            is_sent = await sender.send(good)
            if why:
                report.add_skipped(letter, why)
            elif is_sent:
                report.letters += 1
            else:
                report.copies += 1
        await sender.settle()
    finally:
        await producer.stop()
    return report


def _replayable(found: list[Submission], registry: RegistryState) -> tuple[list[Submission], str]:
    """The submissions that can be replayed, and why the first of the others cannot."""
    good, why = [], ""
    for submission in found:
        try:
            check_registered(submission, registry)
        except NotReplayableError as error:
            why = why or str(error)
        else:
            good.append(submission)
    return good, why


class _ReplayProducer:
    def __init__(
        self, settings: KafkaSettings, producer: AIOKafkaProducer, report: ReplayReport
    ) -> None:
        self._topic = topics_from(settings).submissions.name
        self._partitions = settings.kafka_partitions
        self._producer = producer
        self._report = report
        self._sent: list[tuple[int, asyncio.Future[Any]]] = []
        self._seen: set[bytes] = set()

    async def send(self, submissions: list[Submission]) -> bool:
        """Send new submissions, one frame a partition; return whether there were any.

        A failed replay leaves a second dead letter with the same content: without this check their
        number would double with each replay.
        """
        frames: dict[int, list[Submission]] = {}
        for submission in submissions:
            encoded = encode_submission(submission)
            digest = hashlib.blake2b(encoded, digest_size=16).digest()
            if digest in self._seen:
                self._report.repeated += 1
                continue
            self._seen.add(digest)
            partition = partition_of(key_of(submission), self._partitions)
            frames.setdefault(partition, []).append(submission)
        for partition, members in frames.items():
            frame = encode_frame(NEVER_LATE, members)
            future = await self._producer.send(self._topic, frame, partition=partition)
            self._sent.append((len(members), future))
        if len(self._sent) >= IN_FLIGHT:
            await self.settle()
        return bool(frames)

    async def settle(self) -> None:
        """Wait for the acknowledgements."""
        for count, future in self._sent:
            sent = await future
            self._report.submissions += count
            first = Receipt(sent.partition, sent.offset, 0, sent.timestamp)
            left = max(0, SHOWN - len(self._report.receipts))
            self._report.receipts += [str(first.advance(n)) for n in range(min(count, left))]
        self._sent.clear()


async def _submissions_of(settings: KafkaSettings, letter: DeadLetterRecord) -> list[Submission]:
    value = letter.value
    if letter.origin.truncated_from is not None and letter.origin.index == WHOLE_FRAME:
        source = letter.origin
        sought = await find_record(settings, letter.id.partition, source.source_offset)
        if sought.record is None or sought.record.timestamp != source.appended:
            raise NotReplayableError(
                "it has only the beginning of a frame, which Kafka has deleted"
            )
        value = sought.record.value or b""
    return split_submissions(letter, value)


async def _keys(settings: KafkaSettings, letters: Letters) -> set[bytes]:
    """The keys of the entities in dead letters."""
    keys = set()
    async for letter in letters():
        try:
            for submission in await _submissions_of(settings, letter):
                keys.add(key_of(submission))
        except NotReplayableError:
            pass  # the second reading reports it
    return keys


async def _registry(settings: KafkaSettings, keys: set[bytes]) -> RegistryState:
    """The registry's records of some entities."""
    registry = RegistryReader(settings)
    async with TopicReader(settings, topics_from(settings).registry.name, [0]) as reader:
        await reader.read_to_end(
            lambda p, records: registry.apply(p, [each for each in records if each.key in keys]), {}
        )
    return registry.state
