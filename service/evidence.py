"""Writes to the evidence topic, within limits: why submissions of an entity are missing.

A record of an entity and reason is written at most once a minute, and a process writes at most
MAX_PER_MINUTE records. Events in between are counted in the next record. Memory is bounded, and
nothing waits for a write.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from contract.entity import entity_key, partition_of
from contract.evidence import EVIDENCE_VERSION, MAX_DETAIL, Evidence, EvidenceReason
from contract.evidence import encode_evidence as encode
from service.config.settings import KafkaSettings
from service.kafka.best_effort_producer import BestEffortProducer, PartitionRecord
from service.kafka.topics import topics_from
from service.rate_limiter import RateLimiter
from service.tasks import run_together

REST_SECONDS = 60.0
"""Minimum seconds between two records of one entity and reason."""
MAX_PER_MINUTE = 600
BURST = 60
"""Records that a process may write at once."""
MAX_ENTRIES = 10_000
"""Maximum number of entities and reasons in memory, about 5 MB."""
SERIES_GAP_MS = 3_600_000
"""Milliseconds without an event after which a count begins again."""
TICK = 0.5
"""Seconds between two checks for records to write."""

Key = tuple[str, str, EvidenceReason]
"""Kind, id, reason."""


@dataclass(slots=True)
class _Entry:
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0
    network: str = ""
    detail: str = ""
    receipt: str = ""
    rests: bool = False
    """A record was written within REST_SECONDS."""
    is_changed: bool = False


class EvidenceTable:
    """Counts events by entity and reason, and decides when each is written. Pure.

    `now` is in seconds of a clock that never goes back.
    """

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._limiter = RateLimiter(MAX_PER_MINUTE, BURST)
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._ready: deque[Key] = deque()
        self._resting: deque[tuple[float, Key]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def note(
        self,
        key: Key,
        now_ms: int,
        *,
        network: str = "",
        detail: str = "",
        receipt: str = "",
        count: int = 1,
    ) -> bool:
        """Count an event at `now_ms` (milliseconds since the epoch); return False if there is no
        capacity for it."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= MAX_ENTRIES and not self._evict():
                return False
            entry = self._entries[key] = _Entry()
        else:
            self._entries.move_to_end(key)
        if not entry.count or now_ms - entry.last_ms > SERIES_GAP_MS:
            entry.count, entry.first_ms = 0, now_ms
        entry.count += count
        entry.last_ms = max(now_ms, entry.first_ms)
        entry.network, entry.receipt = network, receipt
        entry.detail = detail[:MAX_DETAIL]
        if not entry.is_changed:
            entry.is_changed = True
            if not entry.rests:
                self._ready.append(key)
        return True

    def take_due(self, now: float, limit: int) -> Iterator[Evidence]:
        """Yield the records to write now, at most `limit`, the longest waiting first."""
        self._end_rests(now)
        while self._ready and limit > 0 and not self._limiter.acquire("", now):
            limit -= 1
            key = self._ready.popleft()
            entry = self._entries[key]
            entry.is_changed, entry.rests = False, True
            self._resting.append((now + REST_SECONDS, key))
            kind, id, reason = key
            yield Evidence(
                version=EVIDENCE_VERSION,
                kind=kind,
                id=id,
                writer=self._writer,
                reason=reason,
                count=entry.count,
                first_ms=entry.first_ms,
                last_ms=entry.last_ms,
                network=entry.network,
                detail=entry.detail,
                receipt=entry.receipt,
            )

    def _end_rests(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            _, key = self._resting.popleft()
            entry = self._entries.get(key)
            if entry is not None:
                entry.rests = False
                if entry.is_changed:
                    self._ready.append(key)

    def _evict(self) -> bool:
        """Evict the least recently changed entry; return False if it is unwritten, or was written
        less than REST_SECONDS ago.
        """
        key, entry = next(iter(self._entries.items()))
        if entry.is_changed or entry.rests:
            return False
        del self._entries[key]
        return True


class EvidenceMetrics:
    """What a service writes to the evidence topic."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        self.written = Counter(
            f"tobogganing_{service}_evidence_records",
            "Records written to the evidence topic",
            registry=registry,
        )
        self.dropped = Counter(
            f"tobogganing_{service}_dropped_evidence",
            "Evidence that was not written: there was too much of it, or Kafka did not accept it",
            registry=registry,
        )


class EvidenceLog:
    """Notes events, and writes records while `run` runs; `now` returns milliseconds since the
    epoch."""

    def __init__(
        self,
        settings: KafkaSettings,
        writer: str,
        metrics: EvidenceMetrics,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._partitions = settings.kafka_partitions
        self._table = EvidenceTable(writer)
        self._now = now
        self._dropped = metrics.dropped
        self._producer = BestEffortProducer(
            settings, topics_from(settings).evidence.name, metrics.dropped.inc, metrics.written.inc
        )

    def note(
        self,
        kind: str,
        id: str,
        reason: EvidenceReason,
        *,
        at_ms: int | None = None,
        network: str = "",
        detail: str = "",
        receipt: str = "",
        count: int = 1,
    ) -> None:
        """Count an event of an entity, now or at `at_ms`."""
        at = self._now() if at_ms is None else at_ms
        if not self._table.note(
            (kind, id, reason), at, network=network, detail=detail, receipt=receipt, count=count
        ):
            self._dropped.inc()

    async def write(self, records: Iterable[PartitionRecord]) -> None:
        """Write records beyond the limits, as fast as Kafka accepts them; they may be dropped."""
        pending = list(records)
        while pending:
            taken = max(1, self._producer.capacity)
            self._producer.enqueue(pending[:taken])
            del pending[:taken]
            await self._producer.wait_until_drained()

    def take_due(self) -> list[Evidence]:
        """Return the records to write now."""
        return list(self._table.take_due(time.monotonic(), self._producer.capacity))

    async def run(self) -> None:
        """Write forever."""
        await run_together(self._producer.run(), self._enqueue_due())

    async def _enqueue_due(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._producer.enqueue(map(self.record, self.take_due()))

    def record(self, evidence: Evidence) -> PartitionRecord:
        """Return the record of some evidence."""
        partition = partition_of(entity_key(evidence.kind, evidence.id), self._partitions)
        return PartitionRecord(partition, evidence.key, encode(evidence))
