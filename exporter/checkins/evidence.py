"""Evidence of why entities are silent, from its topic: bounded in memory, newest records kept."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog
from aiokafka import ConsumerRecord

from contract.evidence import (
    Evidence,
    EvidenceError,
    EvidenceReason,
    decode_evidence,
    parse_evidence_key,
)
from contract.registry_state import RegistryState
from service.config.settings import KafkaSettings
from service.http.errors import unavailable
from service.kafka.registry import RegistryReader
from service.kafka.tailer import KafkaUnreachableError, TopicTailer
from service.kafka.topics import topics_from

log = structlog.get_logger(__name__)

MAX_RECORDS = 20_000
"""Maximum number of records in memory, about 10 MB; the oldest is dropped."""
CATCH_UP_TIMEOUT = 8.0
"""Seconds, as for the search of the other topics (exporter.checkins.lookup)."""

OnExpired = Callable[[bytes, float], None]
"""Called with the key of a registered entity whose row has expired, and its last check-in in
seconds since the epoch."""


STATUSES = {
    EvidenceReason.INVALID: 400,
    EvidenceReason.UNAUTHORIZED: 401,
    EvidenceReason.OUT_OF_SCOPE: 403,
    EvidenceReason.TOO_LARGE: 413,
    EvidenceReason.UNSUPPORTED: 415,
    EvidenceReason.RATE_LIMITED: 429,
}
"""The status that gateways send for each of their reasons."""


class Reported(NamedTuple):
    """What all writers know of one reason; times are in milliseconds since the epoch."""

    reason: EvidenceReason
    times: int
    first_ms: int
    last_ms: int
    network: str
    detail: str
    receipt: str


class EvidenceStore:
    """The newest records by entity. Expired entities are passed on and not kept."""

    def __init__(self, registered: RegistryState, on_expired: OnExpired) -> None:
        self._registered = registered
        self._on_expired = on_expired
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._keys_of: dict[bytes, list[bytes]] = {}
        self._refusals: dict[bytes, tuple[bytes, int, int]] = {}
        """By the key of a refusal: its entity, status and time in milliseconds."""

    def __len__(self) -> int:
        return len(self._values)

    def apply(self, _: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            key: bytes = record.key or b""
            if record.value is None:
                self._remove(key)
                continue
            try:
                evidence = decode_evidence(key, record.value)
            except EvidenceError as error:
                log.warning("evidence skipped", offset=record.offset, reason=str(error))
                continue
            if evidence.reason is EvidenceReason.EXPIRED:
                self._expire(evidence)
            else:
                self._keep(evidence, key, record.value)

    def clear(self) -> None:
        """Forget all records before the topic is read again."""
        self._values.clear()
        self._keys_of.clear()
        self._refusals.clear()

    def find(self, entity: bytes) -> list[Reported]:
        """Return what is known of an entity, the oldest first."""
        by_reason: dict[EvidenceReason, list[Evidence]] = {}
        for key in self._keys_of.get(entity, ()):
            evidence = decode_evidence(key, self._values[key])
            by_reason.setdefault(evidence.reason, []).append(evidence)
        return sorted(map(_merged, by_reason.values()), key=lambda each: each.last_ms)

    def refused(self, since_ms: int) -> dict[int, int]:
        """Return how many entities had a submission refused with each status since a time."""
        found = {
            (status, entity)
            for entity, status, last_ms in self._refusals.values()
            if last_ms >= since_ms
        }
        return dict(sorted(Counter(status for status, _ in found).items()))

    def _expire(self, evidence: Evidence) -> None:
        """An entity that was removed and registered again has never reported."""
        record = self._registered.get(evidence.entity)
        if record is not None and record.incarnation == evidence.incarnation:
            self._on_expired(evidence.entity, evidence.last_ms / 1000)

    def _keep(self, evidence: Evidence, key: bytes, value: bytes) -> None:
        entity, status = evidence.entity, STATUSES.get(evidence.reason)
        if status is not None:
            self._refusals[key] = (entity, status, evidence.last_ms)
        if key not in self._values:
            if len(self._values) >= MAX_RECORDS:
                self._remove(next(iter(self._values)))
            self._keys_of.setdefault(entity, []).append(key)
        self._values[key] = value
        self._values.move_to_end(key)

    def _remove(self, key: bytes) -> None:
        if self._values.pop(key, None) is None:
            return
        self._refusals.pop(key, None)
        entity = parse_evidence_key(key)[0]
        keys = self._keys_of[entity]
        keys.remove(key)
        if not keys:
            del self._keys_of[entity]


def _merged(writers: Iterable[Evidence]) -> Reported:
    """Add up what several writers have counted; details are those of the newest."""
    found = sorted(writers, key=lambda each: each.last_ms)
    newest = found[-1]
    return Reported(
        newest.reason,
        sum(each.count for each in found),
        min(each.first_ms for each in found),
        newest.last_ms,
        newest.network,
        newest.detail,
        newest.receipt,
    )


class EvidenceReader:
    """Tails the evidence topic into a store."""

    def __init__(
        self,
        settings: KafkaSettings,
        partitions: Iterable[int],
        registry: RegistryReader,
        on_expired: OnExpired,
        tailer: type[TopicTailer],
    ) -> None:
        self.store = EvidenceStore(registry.state, on_expired)
        self._registry = registry.tailer
        self._tailer = tailer(
            settings,
            topics_from(settings).evidence.name,
            partitions,
            self.store.apply,
            clear=self.store.clear,
        )

    async def run(self) -> None:
        """Tail the topic, after the registry: only registered entities can be offline."""
        while True:
            try:
                await self._registry.catch_up(timeout=60)
                break
            except KafkaUnreachableError:
                continue
        await self._tailer.run()

    async def find(self, entity: bytes) -> list[Reported]:
        """Return everything that was written about an entity before this call.

        Raises:
            ApiError: 503, Kafka does not respond.
        """
        try:
            await self._tailer.catch_up(CATCH_UP_TIMEOUT)
        except KafkaUnreachableError as error:
            raise unavailable("The evidence cannot be read now: try again") from error
        return self.store.find(entity)
