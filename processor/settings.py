"""Settings of the processor."""

import socket
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from contract.topics import processor_group
from service.config.settings import HttpSettings, KafkaSettings, Port


@dataclass(frozen=True, kw_only=True)
class ProcessorSettings(KafkaSettings, HttpSettings):
    port: Port = 8002
    """Port of its own health endpoints and metrics."""
    worker_name: str = field(default_factory=socket.gethostname)
    """Stable name of this worker in its group: a restart under the same name rebalances nothing."""
    worker_names_folder: str | None = None
    """Take the first free name in this folder instead, which the workers of one machine share."""
    retention_hours: Annotated[float, Meta(gt=0)] = 24.0
    """An entity that was not heard of for so long is swept."""
    sweep_interval_seconds: Annotated[float, Meta(gt=0)] = 60.0
    dead_letters_per_minute: Annotated[float, Meta(ge=0)] = 1000.0
    """Dead letters of one partition; beyond it the partition stops for a while. 0: no cap."""

    stuck_after_seconds: Annotated[float, Meta(ge=1)] = 120.0
    """A partition whose frames wait for so long, and that does not move, is a fault."""

    @property
    def group(self) -> str:
        return processor_group(self.kafka_topic_prefix)
