"""Settings of the exporter."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from contract.kinds import KINDS
from exporter.shard import SHARD_PATTERN, Shard
from exporter.thresholds import Thresholds
from service.config.checks import check_url
from service.config.secrets import ReloadableTokens
from service.config.settings import Check, HttpsSettings, KafkaSettings, Port

WebAddress = Annotated[str, Check(check_url)]
Seconds = Annotated[float, Meta(gt=0, le=30 * 86_400)]


@dataclass(frozen=True, kw_only=True)
class ExporterSettings(KafkaSettings, HttpsSettings):
    port: Port = 8001
    after_timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Seconds that `/metrics?after=…` waits for a submission."""
    max_after_waiters: Annotated[int, Meta(ge=0)] = 1000
    """Maximum number of scrapes that wait for a submission; the response to more is 503."""
    send_within_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """Seconds in which a client must read the response; then it is cut off."""
    max_series: Annotated[int, Meta(ge=0)] = 10_000_000
    """Maximum number of series of clients and headends; with more, scrapes get 503. 0: no limit."""
    exporter_shard: Annotated[str, Meta(pattern=SHARD_PATTERN), Check(Shard.parse)] = "1/1"
    """`2/10`: the second of ten exporters that share the partitions."""
    client_online_seconds: Seconds = 300.0
    """Age of the last check-in below which a client is online; below the next, it is late."""
    client_late_seconds: Seconds = 900.0
    headend_online_seconds: Seconds = 120.0
    """The same for headends."""
    headend_late_seconds: Seconds = 300.0
    admin_token: ReloadableTokens | None = None
    """Optional. With this token, `/api/v1/checkins/…/why` also shows who made administrative
    changes, and from where. METRICS_TOKEN gives access to everything else."""
    auth_failures_per_minute: Annotated[float, Meta(ge=0)] = 60
    """Failed sign-ins of one address that get 401; more get 429. 0: no limit."""
    checkins_session_hours: Annotated[float, Meta(gt=0, le=24 * 30)] = 12.0
    """Hours after which a browser must sign in to /checkins again."""

    grafana_url: WebAddress | None = None
    """Address of a Grafana with our dashboards, `https://grafana.example.com`: the page of an
    entity links to them."""
    runbook_url: WebAddress | None = None
    """Address of the page that your engineers follow; the page of an entity links to it."""

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        if not self.shard.partitions(self.kafka_partitions):
            yield (
                f"EXPORTER_SHARD={self.exporter_shard} has no partition: there are "
                f"{self.kafka_partitions} (KAFKA_PARTITIONS); use at most that many shards"
            )

        for kind in KINDS:
            online, late = self._thresholds(kind)
            if late < online:
                name = kind.upper()
                yield (
                    f"{name}_LATE_SECONDS={late:g} must not be less than "
                    f"{name}_ONLINE_SECONDS={online:g}"
                )

    @property
    def shard(self) -> Shard:
        return Shard.parse(self.exporter_shard)

    @property
    def thresholds(self) -> dict[str, Thresholds]:
        """The thresholds of each kind."""
        return {kind: Thresholds(*self._thresholds(kind)) for kind in KINDS}

    def _thresholds(self, kind: str) -> tuple[float, float]:
        return getattr(self, f"{kind}_online_seconds"), getattr(self, f"{kind}_late_seconds")
