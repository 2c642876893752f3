"""What pages and documents are made from: rows, registry, audit, and how old they are."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from contract.frame import entity_key
from contract.kinds import CLIENT, HEADEND
from exporter.checkins.anomalies import AnomalyReader, RecentAnomalies
from exporter.checkins.directory import Directory
from exporter.checkins.documents import Document, moment, overview
from exporter.checkins.entity import Entities
from exporter.checkins.evidence import EvidenceReader
from exporter.checkins.freshness import Freshness
from exporter.checkins.lookup import EvidenceLookup
from exporter.checkins.views import Views
from exporter.checkins.why import Known, explain
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from service.http.errors import ApiError
from service.kafka.registry import RegistryReader
from service.kafka.tailer import TopicTailer
from service.tasks import run_together

OBSERVE_INTERVAL = 1.0
REFUSALS_SECONDS = 3600.0
PIPELINE_COUNTS = ("read", "applied", "stale", "late", "dead_lettered", "lost")


class CheckinService:
    """Responds to what pages and the API request."""

    def __init__(
        self,
        settings: ExporterSettings,
        store: StateStore,
        registry: RegistryReader,
        freshness: Freshness,
        source: SourceLagMonitor,
        tailer: type[TopicTailer],
        not_ready_reasons: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self.settings = settings
        self.store = store
        self.freshness = freshness
        registered = registry.state
        self.anomalies = RecentAnomalies(store)
        self.directory = Directory(store, registered, settings.kafka_partitions)
        self._source = source
        self._evidence = EvidenceReader(
            settings, store.ledgers, registry, self.directory.on_expired, tailer
        )
        self.views = Views(self.directory, registered, settings.thresholds, freshness.as_of)
        self._entities = Entities(store, registered, self.directory, self.anomalies, settings)
        self._lookup = EvidenceLookup(settings)
        self._anomaly_reader = AnomalyReader(settings, store.ledgers, self.anomalies)
        self._not_ready_reasons = not_ready_reasons

    async def run(self) -> None:
        """Read anomalies and evidence, and observe how old the data is, until cancelled."""
        await run_together(self._anomaly_reader.run(), self._evidence.run(), self._observe())

    async def _observe(self) -> None:
        while True:
            self.freshness.observe()
            self.views.release_unused()
            await asyncio.sleep(OBSERVE_INTERVAL)

    async def status(self) -> Document:
        """Return how old the data is, and what the exporter waits for."""
        as_of, rate = self.freshness.as_of(), self.freshness.submissions_per_second()
        late = self.freshness.seconds_late()
        return {
            "as_of": moment(as_of),
            "is_current": late < 1,
            "seconds_late": round(late, 1),
            "submissions_per_second": None if rate is None else round(rate, 1),
            "pipeline": self._pipeline(),
            "refused": self._refused(),
            "waiting_for": list(await self._not_ready_reasons()),
            "shard": self.settings.exporter_shard,
        }

    def _pipeline(self) -> Document:
        """Return what the ledgers count, and how many frames wait."""
        ledgers = self.store.ledgers.values()
        counts = {name: sum(getattr(each, name) for each in ledgers) for name in PIPELINE_COUNTS}
        return counts | {"frames_waiting": sum(self.freshness.lag().values())}

    def _refused(self) -> dict[str, int]:
        """Return how many registered entities were refused lately, by status."""
        since_ms = round((time.time() - REFUSALS_SECONDS) * 1000)
        refused = self._evidence.store.refused(since_ms)
        return {str(status): entities for status, entities in refused.items()}

    async def overview(self) -> Document:
        clients = await self.views.view(CLIENT.name)
        headends = await self.views.view(HEADEND.name)
        return overview(clients, headends, self.settings.thresholds, await self.status())

    def entity(self, kind: str, id: str) -> Document:
        """Return an entity's document.

        Raises:
            ApiError: 404, it is unknown; 421, another exporter serves it.
        """
        self._check_served(kind, id)
        found = self._entities.find(kind, id, self.freshness.as_of())
        if found is None:
            raise ApiError(404, f"No {kind} {id!r} is registered or has reported")
        return found

    async def why(self, kind: str, id: str, *, with_actors: bool = False) -> Document:
        """Return why an entity is silent; `with_actors` also who made changes.

        Raises:
            ApiError: 421, another exporter serves it; 503, Kafka does not respond.
        """
        self._check_served(kind, id)
        partition = self._entities.partition(kind, id)
        # Processors write a dead letter before its evidence, so a reader of the evidence also finds
        # the letter.
        reported = await self._evidence.find(entity_key(kind, id))
        findings = await self._lookup.find(kind, id, partition)
        found = self._entities.find(kind, id, self.freshness.as_of())
        version = self.store.find(kind, id)
        is_removed = version is not None and version.removed
        late = self.freshness.seconds_late()
        waiting = self._source.lag().get(partition, 0)
        known = Known(found, is_removed, findings, reported, late if late > 1 else 0.0, waiting)
        return explain(kind, id, known, with_actors=with_actors)

    def _check_served(self, kind: str, id: str) -> None:
        if kind not in self.directory.kinds:
            raise ApiError(404, "Not found")
        if not self._entities.is_served(kind, id):
            partition = self._entities.partition(kind, id)
            raise ApiError(421, f"Partition {partition} is not served by this exporter")
