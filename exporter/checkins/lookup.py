"""Finds records about one entity in the topics that the exporter does not keep in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.audit import ChangeOutcome, decode_audit
from contract.dead_letter import (
    WHOLE_FRAME,
    DeadLetterError,
    DeadLetterSource,
    decode_source,
)
from contract.decoding import DECODE_ERRORS
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.http.errors import unavailable
from service.kafka.dead_letter_value import unpack_value
from service.kafka.reader import Apply, ReaderError, TopicReader
from service.kafka.topics import topics_from

MAX_RECORDS = 100_000
"""Number of the newest records of a partition to search."""
LOOKUP_TIMEOUT = 8.0
MAX_CONCURRENT = 2
"""Maximum number of concurrent searches; each opens four broker connections."""


class Change(NamedTuple):
    """An administrative change that was made or attempted; `at` is in seconds since the epoch.

    `actor` and `address` may be shown to holders of ADMIN_TOKEN only.
    """

    at: float
    action: str
    outcome: ChangeOutcome
    reason: str
    actor: str = ""
    address: str = ""


class Letter(NamedTuple):
    """A submission that became a dead letter; `at` is its append time in seconds."""

    at: float
    reason: str
    receipt: Receipt


class Findings(NamedTuple):
    """What was found about an entity, the oldest first."""

    changes: list[Change]
    letters: list[Letter]


class EvidenceLookup:
    """Searches the topics audit and dead-letter."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topics = topics_from(settings)
        self._concurrency = asyncio.Semaphore(MAX_CONCURRENT)

    async def find(self, kind: str, id: str, partition: int) -> Findings:
        """Return what the topics contain about an entity.

        Raises:
            ApiError: 503, Kafka does not respond.
        """
        changes, letters = _Changes(f"{kind}:{id}"), _Letters(kind, id)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT), self._concurrency, asyncio.TaskGroup() as g:
                g.create_task(self._search(self._topics.audit.name, 0, changes.apply))
                g.create_task(self._search(self._topics.dead_letter.name, partition, letters.apply))
        except* (KafkaError, ReaderError, TimeoutError) as errors:
            raise unavailable("Kafka does not respond") from errors
        return Findings(list(changes.found.values()), letters.found)

    async def _search(self, topic: str, partition: int, apply: Apply) -> None:
        async with TopicReader(self._settings, topic, [partition]) as reader:
            end = (await reader.end_offsets())[partition]
            await reader.read_to_end(apply, {partition: max(0, end - MAX_RECORDS)})


class _Changes:
    """Collects the changes of a target; of each request, the last outcome."""

    def __init__(self, target: str) -> None:
        self.found: dict[str, Change] = {}
        self._target = target

    def apply(self, _: int, records: Sequence[ConsumerRecord]) -> None:
        wanted = self._target.partition(":")[2].encode()
        for record in records:
            if record.value is None or wanted not in record.value:
                continue
            try:
                audit = decode_audit(record.value)
            except DECODE_ERRORS:
                continue
            if audit.concerns(self._target):
                at = record.timestamp / 1000
                self.found[audit.request] = Change(
                    at, audit.action, audit.outcome, audit.reason, audit.actor, audit.address
                )


class _Letters:
    """Collects the dead letters of an entity's submissions."""

    def __init__(self, kind: str, id: str) -> None:
        self.found: list[Letter] = []
        self._kind = kind
        self._id = id

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        wanted = self._id.encode()
        for record in records:
            try:
                source = decode_source(record.headers)
                if record.value is None or source.index <= WHOLE_FRAME:
                    continue
                value = unpack_value(source, record.value)
            except DeadLetterError:
                continue
            if wanted in value and self._is_own(value):
                self.found.append(_letter(partition, source))

    def _is_own(self, value: bytes) -> bool:
        try:
            submission: Any = orjson.loads(value)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(submission, dict):
            return False
        return submission.get("kind") == self._kind and submission.get("id") == self._id


def _letter(partition: int, source: DeadLetterSource) -> Letter:
    receipt = Receipt(partition, source.source_offset, source.index, source.appended)
    return Letter(source.appended / 1000, source.reason, receipt)
