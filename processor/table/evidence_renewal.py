"""Keeps the evidence of expired entities until they return or are removed.

The evidence topic deletes records after 7 days. An entity that is silent for longer must still be
shown with its last check-in, so its record is appended again before that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.evidence import EvidenceError, EvidenceReason, parse_evidence_key
from processor.core.partition_state import PartitionState
from processor.table.state_table import StateTable
from service.config.settings import KafkaSettings
from service.kafka.best_effort_producer import PartitionRecord
from service.kafka.reader import ReaderError, TopicReader

log = structlog.get_logger(__name__)

WriteEvidence = Callable[[Sequence[PartitionRecord]], Awaitable[None]]
"""Writes records to the evidence topic; returns when they are written or dropped."""

FIRST_AFTER = 300.0
"""Seconds from the start of a worker to its first run."""
INTERVAL = 43_200.0
RENEW_AFTER_MS = 2 * 24 * 3600 * 1000
"""Age of a record at which it is appended again."""
TIMEOUT = 300.0
"""Seconds that one partition may take."""


class EvidenceRenewal:
    """Renews the records of this worker's partitions."""

    def __init__(
        self, settings: KafkaSettings, topic: str, table: StateTable, write: WriteEvidence
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._table = table
        self._write = write

    async def run(self) -> None:
        """Renew every INTERVAL seconds, forever."""
        await asyncio.sleep(FIRST_AFTER)
        while True:
            for partition in self._table.store.loaded():
                try:
                    async with asyncio.timeout(TIMEOUT):
                        await self.renew(partition)
                except (KafkaError, ReaderError, TimeoutError) as error:
                    log.warning("evidence not renewed", partition=partition, reason=repr(error))
            await asyncio.sleep(INTERVAL)

    async def renew(self, partition: int, now_ms: int | None = None) -> int:
        """Append the old records of a partition again; return their number.

        Raises:
            KafkaError: Kafka does not respond.
        """
        found: dict[bytes, ConsumerRecord] = {}

        def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                if _expired_entity(record.key) is not None:
                    found[record.key] = record

        async with TopicReader(self._settings, self._topic, [partition]) as reader:
            await reader.read_to_end(collect, {})
        state = self._table.store.owned(partition)
        if state is None:
            return 0
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        old = [
            PartitionRecord(partition, record.key, record.value)
            for record in found.values()
            if record.value is not None
            and record.timestamp <= now_ms - RENEW_AFTER_MS
            and not _has_row(state, record.key)
        ]
        await self._write(old)
        if old:
            log.info("evidence renewed", partition=partition, entities=len(old))
        return len(old)


def _has_row(state: PartitionState, key: bytes) -> bool:
    entity = _expired_entity(key)
    return entity is not None and entity in state.rows


def _expired_entity(key: bytes | None) -> bytes | None:
    """Return the entity whose expiry a record's key names, None for other keys."""
    try:
        entity, _, reason = parse_evidence_key(key or b"")
    except EvidenceError:
        return None
    return entity if reason is EvidenceReason.EXPIRED else None
