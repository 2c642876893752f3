"""Composition of `/metrics/fleet`."""

from prometheus_client import CollectorRegistry

from contract.kinds import KINDS
from contract.registry_state import RegistryState
from exporter.fleet.collector import FleetCollector
from exporter.fleet.gate import TotalsGate
from exporter.fleet.registered import registered_groups
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from service.http.errors import unavailable
from service.kafka.tailer import KafkaUnreachableError, TopicTailer

READ_TIMEOUT = 3.0
"""Seconds in which a scrape must read `entity-state` to the end that it had at the request."""


class FleetView:
    """What `/metrics/fleet` shows; `registry` is None if this exporter does not read it."""

    def __init__(
        self,
        settings: ExporterSettings,
        store: StateStore,
        state: TopicTailer,
        source: SourceLagMonitor,
        registry: RegistryState | None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._state = state
        self.registry.register(
            FleetCollector(
                store.totals,
                {name: store.table(name).columns for name in KINDS},
                settings.thresholds,
                TotalsGate(store.ledgers, source),
                None if registry is None else lambda kind: registered_groups(registry, kind),
                shows_never=settings.shard.count == 1,
            )
        )

    async def catch_up(self) -> None:
        """Read `entity-state` to its current end, so that no total is below one that another
        exporter has shown.

        Raises:
            ApiError: 503, Kafka does not respond, or reading takes too long.
        """
        try:
            await self._state.catch_up(READ_TIMEOUT)
        except KafkaUnreachableError as error:
            raise unavailable("entity-state cannot be read to its end now") from error
