"""Settings of the processor."""

import socket
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from contract.topics import SUBMISSIONS_RETENTION_MARGIN_HOURS, processor_group
from service.config.settings import HttpSettings, KafkaSettings, Port


@dataclass(frozen=True, kw_only=True)
class ProcessorSettings(KafkaSettings, HttpSettings):
    port: Port = 8002
    """Port of the health endpoints and metrics."""
    worker_name: str = field(default_factory=socket.gethostname)
    """Name of this worker in its group; a restart with the same name causes no rebalance."""
    worker_names_folder: str | None = None
    """Folder shared by the workers of one machine; each acquires the first free name in it."""
    retention_hours: Annotated[float, Meta(gt=0)] = 24.0
    """Hours without a submission after which an entity is removed."""
    sweep_interval_seconds: Annotated[float, Meta(gt=0)] = 60.0
    dead_letters_per_minute: Annotated[float, Meta(ge=0)] = 1000.0
    """Limit of dead letters per partition; above it, the partition is paused. 0: no limit."""

    stuck_after_seconds: Annotated[float, Meta(ge=1)] = 120.0
    """Seconds without progress, with frames waiting, after which a partition counts as stuck."""

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        least = self.retention_hours + SUBMISSIONS_RETENTION_MARGIN_HOURS
        if self.submissions_retention_hours < least:
            yield (
                f"SUBMISSIONS_RETENTION_HOURS={self.submissions_retention_hours:g} must be at "
                f"least RETENTION_HOURS + {SUBMISSIONS_RETENTION_MARGIN_HOURS}: set it to {least:g}"
                " or more for all services"
            )

    @property
    def group(self) -> str:
        return processor_group(self.kafka_topic_prefix)
