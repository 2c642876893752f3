"""Limits: how often who is known may submit, or change his own credentials.

Each gateway counts for itself.
"""

import math
import time
from collections.abc import Callable

from contract.registry import RELAY, RegistryRecord
from gateway.settings import GatewaySettings
from service.buckets import TokenBuckets
from service.http import ApiError, too_many
from service.requests import RequestMetrics


class Limits:
    """Refuses what is more than the settings allow."""

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: RequestMetrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entities = TokenBuckets(settings.rate_limit_per_minute)
        self._relays = TokenBuckets(settings.relay_rate_limit_per_minute)
        self._changes = TokenBuckets(settings.rate_limit_per_minute)
        self._tokens = TokenBuckets(settings.rate_limit_per_minute)
        self._metrics = metrics
        self._now = now

    def admit(self, record: RegistryRecord, endpoint: str, items: int = 1) -> None:
        """Count a request of an entity, or the items of a relay's, to the route `endpoint`.

        Raises:
            ApiError: 429 with the seconds after which the same would pass.
        """
        buckets = self._relays if record.kind == RELAY else self._entities
        wait = buckets.take(record.key, self._now(), items)
        if wait:
            raise self._refusal("submissions", record, endpoint, wait)

    def admit_change(self, record: RegistryRecord, endpoint: str) -> None:
        """Count a change that somebody makes for himself: each of them every gateway must keep.

        Raises:
            ApiError: 429 with the seconds after which the same would pass.
        """
        wait = self._changes.take(record.key, self._now())
        if wait:
            raise self._refusal("changes", record, endpoint, wait)

    def admit_token(self, record: RegistryRecord, endpoint: str) -> None:
        """Count a token that a node requests: each costs a signature.

        Raises:
            ApiError: 429 with the seconds after which the same would pass.
        """
        wait = self._tokens.take(record.key, self._now())
        if wait:
            raise self._refusal("tokens", record, endpoint, wait)

    def _refusal(self, what: str, record: RegistryRecord, endpoint: str, wait: float) -> ApiError:
        self._metrics.count_limited(endpoint, record.attributes.get("type", record.kind))
        return too_many(f"Too many {what}: wait before the next", math.ceil(wait))
