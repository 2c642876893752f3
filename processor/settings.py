"""Settings of the processor."""

import socket
from dataclasses import dataclass, field

from service.settings import HttpSettings, KafkaSettings


@dataclass(frozen=True, kw_only=True)
class ProcessorSettings(KafkaSettings, HttpSettings):
    port: int = 8002
    """Port of its own health endpoints and metrics."""
    worker_name: str = field(default_factory=socket.gethostname)
    """Stable name of this worker in its group: a restart under the same name rebalances nothing."""
    retention_hours: float = 24.0
    """An entity that was not heard of for so long is swept."""
    sweep_interval: float = 60.0
    """Seconds between two sweeps."""

    @property
    def group(self) -> str:
        return f"{self.kafka_topic_prefix}processor"
