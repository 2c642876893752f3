"""Responses to failed authentication."""

import ipaddress
import time
from collections.abc import Callable

from starlette.types import Scope

from service.http.errors import ApiError, too_many, unauthorized
from service.metrics.requests import Credential, RequestMetrics, address_of, endpoint_of
from service.rate_limiter import RateLimiter


class AuthFailureLimiter:
    """Responds with 401, or with 429 if an address failed too often in the last minute.

    Only responses that would be 401 become 429. A valid credential is always accepted, so clients
    behind the same address do not block each other.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        failures_per_minute: float = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._limiter = RateLimiter(failures_per_minute)
        self._now = now

    def failure(self, credential: Credential, scope: Scope) -> ApiError:
        """Count a failed attempt; return the response to it."""
        self._metrics.count_attempt(credential, False)
        wait = self._limiter.acquire(_network_of(address_of(scope)), self._now())
        if not wait:
            return unauthorized()
        self._metrics.count_limited(endpoint_of(scope), "unknown")
        return too_many(
            "Too many failed attempts from this address", "failed-attempts", self._limiter, wait
        )


def _network_of(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address, which belongs to one
    subscriber."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:  # an IPv4 address on a dual-stack socket
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
