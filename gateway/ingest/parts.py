"""What the endpoints of submissions and batches have in common."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.auth.authenticator import Authenticator
from gateway.auth.rate_limits import RateLimits
from gateway.ingest.arrival import ArrivalDeadlines
from gateway.ingest.encoder import TemplateCache
from gateway.metrics import GatewayMetrics
from gateway.produce.batcher import SubmissionBatcher
from gateway.registry.refusals import RefusalRecorder
from service.slices import Slices


class IngestParts(NamedTuple):
    """The parts of a gateway that ingestion uses; `now` returns seconds since the epoch."""

    max_body_bytes: int
    authenticator: Authenticator
    batcher: SubmissionBatcher
    arrivals: ArrivalDeadlines
    metrics: GatewayMetrics
    rate_limits: RateLimits
    refusals: RefusalRecorder
    templates: TemplateCache
    slices: Slices
    now: Callable[[], float]
