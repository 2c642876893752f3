"""Deadlines that count from a request's arrival at the edge.

The edge sends a submission again, to another gateway, if the first one dies. Counted from its
arrival at the second gateway, its deadline would be later than the sender's patience, and the
submission could replace a newer one. Trusted proxies therefore send the time at which a request
arrived, by their own clock: `X-Request-Start: t=1700000000123`, in milliseconds, or as nginx writes
it, `t=1700000000.123`.
"""

import math
import re
import time
from collections.abc import Callable

from starlette.requests import Request

from service.config.networks import Networks
from service.http.connection.request_head import PEER

HEADER = b"x-request-start"
_NGINX_SECONDS = re.compile(rb"[0-9]{10}\.[0-9]{3}")
"""nginx's `$msec`."""
MAX_AGE = 60.0
"""Seconds. A request that appears older shows that a clock was set: no proxy waits this long."""
WINDOW = 2.0
ENOUGH = 20
"""Seconds and requests after which the youngest one is taken for one that has just arrived."""
MAX_PROXIES = 1000
"""Addresses that are remembered."""


class ArrivalDeadlines:
    """Computes the deadline of each request; `within` is in seconds."""

    def __init__(
        self,
        trusted: Networks,
        within: float,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._trusted = trusted
        self._within = within
        self._now = now
        self._wall_clock = wall_clock
        self._proxies: dict[str, _ProxyClock] = {}

    def deadline(self, peer: tuple[str, int] | None, header: bytes | None) -> float:
        """Return the deadline of a request that has just arrived from `peer`, on the clock `now`.

        `header` is the value of X-Request-Start; it is ignored unless it is from a trusted proxy.
        """
        now = self._now()
        if header is not None and self._trusted and peer is not None:
            proxy = self._proxy(peer[0])
            started = _seconds(header)
            if proxy is not None and started is not None:
                return now + self._within - proxy.age(self._wall_clock() - started, now)
        return now + self._within

    def of(self, request: Request) -> float:
        """Return the deadline of an ASGI request; its client may be the one that a proxy named."""
        header = request.headers.get(HEADER.decode())
        return self.deadline(request.scope.get(PEER), header.encode("latin-1") if header else None)

    def _proxy(self, host: str) -> "_ProxyClock | None":
        proxy = self._proxies.get(host)
        if proxy is None and host in self._trusted:
            if len(self._proxies) >= MAX_PROXIES:
                self._proxies.clear()
            proxy = self._proxies[host] = _ProxyClock()
        return proxy


class _ProxyClock:
    """The difference between a proxy's clock and this host's.

    It is at most the age that the youngest request appears to have. It is assumed to be 0 until a
    request appears to be from the future, or all requests of a window appear to be older.
    """

    __slots__ = ("_count", "_difference", "_lowest", "_since")

    def __init__(self) -> None:
        self._difference = 0.0
        self._since = -math.inf
        self._count = 0
        self._lowest = math.inf

    def age(self, apparent: float, now: float) -> float:
        """Return the age of a request in seconds; `apparent` is by both clocks."""
        if self._since == -math.inf:
            self._since = now
        if apparent < self._difference or apparent - self._difference > MAX_AGE:
            self._set(apparent, now)
        self._count += 1
        self._lowest = min(self._lowest, apparent)
        if self._count >= ENOUGH and now - self._since >= WINDOW:
            self._set(self._lowest, now)
        return max(0.0, apparent - self._difference)

    def _set(self, difference: float, now: float) -> None:
        self._difference = difference
        self._since, self._count, self._lowest = now, 0, math.inf


def _seconds(header: bytes) -> float | None:
    """Return the time in a header in seconds since the epoch, None if it is not valid."""
    value = header.removeprefix(b"t=")
    if value.isdigit() and len(value) < 16:
        return int(value) / 1000
    return float(value) if _NGINX_SECONDS.fullmatch(value) else None
