"""Rate limits of authenticated entities. Each gateway counts on its own."""

import time
from collections.abc import Callable

from contract.registry import RELAY, RegistryRecord
from gateway.registry.refusals import RefusalRecorder
from gateway.settings import GatewaySettings
from service.http.errors import ApiError, too_many
from service.metrics.requests import RequestMetrics
from service.rate_limiter import RateLimiter


class RateLimits:
    """Refuses requests beyond the configured rates."""

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: RequestMetrics,
        refusals: RefusalRecorder,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entities = RateLimiter(settings.rate_limit_per_minute)
        self._relays = RateLimiter(settings.relay_rate_limit_per_minute)
        self._changes = RateLimiter(settings.rate_limit_per_minute)
        self._tokens = RateLimiter(settings.rate_limit_per_minute)
        self._enrolments = RateLimiter(settings.enrolment_rate_limit_per_minute)
        self._metrics = metrics
        self._refusals = refusals
        self._now = now

    def admit(self, record: RegistryRecord, endpoint: str, items: int = 1) -> None:
        """Count one request of an entity, or `items` of a relay, for the route `endpoint`.

        Raises:
            ApiError: 429 with the seconds until the request would be admitted.
        """
        # Without _acquire: each submission passes here.
        limiter = self._relays if record.kind == RELAY else self._entities
        wait = limiter.acquire(record.key, self._now(), items)
        if wait:
            raise self._too_many("submissions", limiter, record, endpoint, wait, items)

    def admit_change(self, record: RegistryRecord, endpoint: str) -> None:
        """Count a change that an entity makes to itself; every gateway must store the change.

        Raises:
            ApiError: 429 with the seconds until the request would be admitted.
        """
        self._acquire(self._changes, "changes", record, endpoint)

    def admit_token(self, record: RegistryRecord, endpoint: str) -> None:
        """Count a token that a node requests; each one costs a signature.

        Raises:
            ApiError: 429 with the seconds until the request would be admitted.
        """
        self._acquire(self._tokens, "tokens", record, endpoint)

    def admit_enrolment(self, record: RegistryRecord, endpoint: str) -> None:
        """Count an agent that enrols: a leaked token fills the registry no faster than this.

        Raises:
            ApiError: 429 with the seconds after which the same would pass.
        """
        self._acquire(self._enrolments, "enrolments", record, endpoint)

    def _acquire(
        self, limiter: RateLimiter, what: str, record: RegistryRecord, endpoint: str
    ) -> None:
        wait = limiter.acquire(record.key, self._now())
        if wait:
            raise self._too_many(what, limiter, record, endpoint, wait)

    def _too_many(
        self,
        what: str,
        limiter: RateLimiter,
        record: RegistryRecord,
        endpoint: str,
        wait: float,
        cost: int = 1,
    ) -> ApiError:
        self._metrics.count_limited(endpoint, record.attributes.get("type", record.kind))
        self._refusals.rate_limited(record, f"too many {what}")
        return too_many(f"Too many {what}: wait before the next request", what, limiter, wait, cost)
