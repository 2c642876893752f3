"""Settings of the exporter."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from service.settings import HttpSettings, KafkaSettings, Port


@dataclass(frozen=True, kw_only=True)
class ExporterSettings(KafkaSettings, HttpSettings):
    port: Port = 8001
    after_timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Seconds that `/metrics?after=…` waits for a submission."""
    max_after_waiters: Annotated[int, Meta(ge=0)] = 1000
    """Scrapes that may wait for a submission at a time; more are answered 503."""
