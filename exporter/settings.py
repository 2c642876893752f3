"""Settings of the exporter."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from contract.kinds import KINDS
from exporter.shard import SHARD_PATTERN, Shard
from service.config.settings import Check, HttpSettings, KafkaSettings, Port

Seconds = Annotated[float, Meta(gt=0, le=30 * 86_400)]


@dataclass(frozen=True, kw_only=True)
class ExporterSettings(KafkaSettings, HttpSettings):
    port: Port = 8001
    after_timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Seconds that `/metrics?after=…` waits for a submission."""
    max_after_waiters: Annotated[int, Meta(ge=0)] = 1000
    """Scrapes that may wait for a submission at a time; more are answered 503."""
    send_within_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """Seconds in which a scraper must have read its answer; then it is cut off."""
    max_series: Annotated[int, Meta(ge=0)] = 10_000_000
    """Series of clients and headends that may be shown; with more, no scrape is. 0: no limit."""
    exporter_shard: Annotated[str, Meta(pattern=SHARD_PATTERN), Check(Shard.parse)] = "1/1"
    """`2/10`: this is the second of ten exporters that share the partitions."""
    client_online_seconds: Seconds = 300.0
    """Age of the last check-in below which a client is online; below the next, it is late."""
    client_late_seconds: Seconds = 900.0
    headend_online_seconds: Seconds = 120.0
    """The same for headends."""
    headend_late_seconds: Seconds = 300.0

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        for kind in KINDS:
            online, late = (getattr(self, f"{kind}_{each}_seconds") for each in ("online", "late"))
            if online > late:
                name = kind.upper()
                yield f"{name}_ONLINE_SECONDS={online:g} is more than {name}_LATE_SECONDS={late:g}"
        if not self.shard.partitions(self.kafka_partitions):
            yield (
                f"EXPORTER_SHARD={self.exporter_shard} has none of the {self.kafka_partitions} "
                "partitions: let there be at most as many shards as KAFKA_PARTITIONS"
            )

    @property
    def shard(self) -> Shard:
        return Shard.parse(self.exporter_shard)
