"""Responses to failed authentication."""

import ipaddress
import math
import time
from collections.abc import Callable

from starlette.types import Scope

from service.http.errors import ApiError, too_many, unauthorized
from service.metrics.requests import Credential, RequestMetrics, address_of, endpoint_of
from service.rate_limiter import RateLimiter


class AuthFailureLimiter:
    """Answers 401, or 429 where an address has failed too often in the last minute.

    Only what would be a 401 becomes a 429: a correct credential always passes, so nobody is
    punished for a neighbour behind the same address.
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
        """Count a failed attempt; return the answer to it."""
        self._metrics.count_attempt(credential, False)
        wait = self._limiter.acquire(_network_of(address_of(scope)), self._now())
        if not wait:
            return unauthorized()
        self._metrics.count_limited(endpoint_of(scope), "unknown")
        return too_many("Too many failed attempts from this address", math.ceil(wait))


def _network_of(address: str) -> str:
    """An IPv4 address, or the /64 network that one subscriber has all IPv6 addresses of."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:  # how a socket for both versions shows an IPv4 address
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
