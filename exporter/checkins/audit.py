"""Finds the administrative changes of an entity in the audit topic."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.audit import ChangeOutcome, decode_audit
from service.config.settings import KafkaSettings
from service.http.errors import unavailable
from service.kafka.reader import Apply, ReaderError, TopicReader
from service.kafka.topics import topics_from

MAX_RECORDS = 100_000
"""Number of the newest records to search."""
LOOKUP_TIMEOUT = 8.0
MAX_CONCURRENT = 2
"""Maximum number of concurrent searches; each opens two broker connections."""


class Change(NamedTuple):
    """A change that was made or attempted; `at` is in seconds since the epoch."""

    at: float
    action: str
    outcome: ChangeOutcome
    reason: str


class AuditLookup:
    """Searches the audit topic. Actors and addresses are not returned: they need ADMIN_TOKEN."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = topics_from(settings).audit.name
        self._concurrency = asyncio.Semaphore(MAX_CONCURRENT)

    async def changes(self, kind: str, id: str) -> list[Change]:
        """Return the changes of an entity, the oldest first; of each request the last outcome.

        Raises:
            ApiError: 503, Kafka does not respond.
        """
        target = f"{kind}:{id}"
        found: dict[str, Change] = {}

        def apply(_: int, records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                if record.value is None or target.encode() not in record.value:
                    continue
                try:
                    audit = decode_audit(record.value)
                except msgspec.DecodeError:
                    continue
                if audit.target == target:
                    at = record.timestamp / 1000
                    found[audit.request] = Change(at, audit.action, audit.outcome, audit.reason)

        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT), self._concurrency:
                await self._search(apply)
        except (KafkaError, ReaderError, TimeoutError) as error:
            raise unavailable("Kafka does not respond") from error
        return list(found.values())

    async def _search(self, apply: Apply) -> None:
        async with TopicReader(self._settings, self._topic, [0]) as reader:
            end = (await reader.end_offsets())[0]
            await reader.read_to_end(apply, {0: max(0, end - MAX_RECORDS)})
