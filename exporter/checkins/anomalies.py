"""Anomalies of the last 24 h, from their topic: which entities had any, and their newest ones."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from contract.anomaly import Anomaly, decode_anomaly
from contract.position import Receipt
from exporter.state.store import StateStore
from service.config.settings import KafkaSettings
from service.kafka.reader import ReaderError, TopicReader
from service.kafka.tailer import IDLE_WAIT_MS
from service.kafka.topics import topics_from

log = structlog.get_logger(__name__)

PERIOD = 86_400.0
"""Seconds for which an entity counts as one with anomalies."""
MAX_ENTITIES = 20_000
"""Entities to remember, those with the newest anomalies, about 2 KB each at most."""
MAX_PER_ENTITY = 10
RETRY_SECONDS = 5.0
REFRESH_SECONDS = 10.0
READ_FAILURES = (KafkaError, ReaderError, OSError, TimeoutError)


class RecentAnomalies:
    """The newest anomalies of each entity; marks their entities in the tables of a store."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._found: dict[bytes, deque[Anomaly]] = {}
        """By entity, the one with the newest anomaly last."""

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Add records of the topic."""
        for record in records:
            try:
                anomaly = decode_anomaly(record.value or b"")
                table = self._store.table(anomaly.kind)
            except (msgspec.DecodeError, KeyError):
                continue
            key = f"{anomaly.kind}:{anomaly.id}".encode()
            newest = self._found.pop(key, None) or deque(maxlen=MAX_PER_ENTITY)
            newest.append(anomaly)
            self._found[key] = newest
            table.mark_anomalous(key, True)
        for key in list(islice(self._found, max(0, len(self._found) - MAX_ENTITIES))):
            self._forget(key)

    def of(self, key: bytes, now: float) -> Iterator[tuple[float, Anomaly, Receipt]]:
        """Yield an entity's anomalies with their times and receipts, the newest first."""
        for anomaly in reversed(self._found.get(key, ())):
            at = anomaly.appended_ms / 1000
            if at > now - PERIOD:
                receipt = Receipt(
                    anomaly.partition, anomaly.offset, anomaly.index, anomaly.appended_ms
                )
                yield at, anomaly, receipt

    def refresh(self, now: float) -> None:
        """Forget anomalies that are too old, and mark entities that have become known."""
        for key, anomalies in list(self._found.items()):
            if anomalies[-1].appended_ms / 1000 <= now - PERIOD:
                self._forget(key)
            else:
                self._store.table(anomalies[-1].kind).mark_anomalous(key, True)

    def _forget(self, key: bytes) -> None:
        anomalies = self._found.pop(key)
        self._store.table(anomalies[-1].kind).mark_anomalous(key, False)


class AnomalyReader:
    """Reads the topic from 24 h ago on, and continues; a failure delays it only."""

    def __init__(
        self, settings: KafkaSettings, partitions: Iterable[int], anomalies: RecentAnomalies
    ) -> None:
        self._settings = settings
        self._topic = topics_from(settings).anomalies.name
        self._partitions = tuple(partitions)
        self._anomalies = anomalies
        self._next: dict[int, int] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self._follow()
            except READ_FAILURES as error:
                log.warning("anomalies cannot be read now", reason=repr(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        async with TopicReader(
            self._settings, self._topic, self._partitions, wait_ms=IDLE_WAIT_MS
        ) as reader:
            begins = await reader.offsets_since(int((time.time() - PERIOD) * 1000))
            ends = await reader.end_offsets()
            for partition, begin in begins.items():
                # An end below what was read: the topic was recreated.
                known = self._next.get(partition, 0)
                self._next[partition] = known if begin <= known <= ends[partition] else begin
            reader.seek(self._next)
            refreshed = 0.0
            while True:
                await reader.poll(self._apply)
                if time.monotonic() - refreshed > REFRESH_SECONDS:
                    self._anomalies.refresh(time.time())
                    refreshed = time.monotonic()

    def _apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        self._anomalies.apply(partition, records)
        if records:
            self._next[partition] = records[-1].offset + 1
