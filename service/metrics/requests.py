"""Request metrics of every HTTP service."""

import importlib.metadata
import platform
import time
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics.fast_metrics import FastHistogramFamily, counter
from service.metrics.multiprocess import is_multiprocess

Credential = Literal["api_key", "jwt", "admin", "metrics_token", "enrolment", "certificate"]
CREDENTIALS: tuple[Credential, ...] = (
    "api_key",
    "jwt",
    "admin",
    "metrics_token",
    "enrolment",
    "certificate",
)
DISTRIBUTION = "tobogganing-metrics"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""Endpoint label of a request that matches no route."""
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def endpoint_of(scope: Scope) -> str:
    """Return the template of the route that matched a request; metrics never contain a raw path."""
    template: str = scope.get("endpoint_template", UNMATCHED)
    return template


def address_of(scope: Scope) -> str:
    """Return the client address of a request; a trusted proxy's X-Forwarded-For is already
    applied."""
    client = scope.get("client")
    return client[0] if client else "unknown"


class RequestMetrics:
    """Metrics of the requests and authentication attempts of one process, and its build info."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = counter(
            "tobogganing_manager_http_requests",
            "HTTP requests processed",
            ["method", "endpoint", "status"],
            registry,
        )
        self._duration = _durations(registry)
        self._attempts = counter(
            "tobogganing_manager_auth_attempts",
            "Authentication attempts",
            ["type", "result"],
            registry,
        )
        self._limited = Counter(
            "tobogganing_manager_api_rate_limit_hits",
            "Requests that a rate limit refused (429)",
            ["endpoint", "client_type"],
            registry=registry,
        )
        Gauge(
            "tobogganing_manager_build_info",
            "Always 1; the labels contain the versions",
            ["version", "python"],
            registry=registry,
            multiprocess_mode="livemax",
        ).labels(importlib.metadata.version(DISTRIBUTION), platform.python_version()).set(1)
        # Cached, because looking up a child by labels costs more than counting.
        self._seen: dict[
            tuple[str, str, int], tuple[Callable[[], None], Callable[[float], None]]
        ] = {}
        self._results = {
            (credential, succeeded): self._attempts.labels(credential, result)
            for credential in CREDENTIALS
            for succeeded, result in ((True, "success"), (False, "failure"))
        }

    def count_request(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count a response and its duration."""
        known = method if method in METHODS else "OTHER"
        children = self._seen.get((known, endpoint, status))
        if children is None:
            children = (
                self._requests.labels(known, endpoint, str(status)).inc,
                self._duration(known, endpoint),
            )
            self._seen[known, endpoint, status] = children
        count, add = children
        count()
        add(seconds)

    def count_attempt(self, credential: Credential, succeeded: bool) -> None:
        self._results[credential, succeeded].inc()

    def count_limited(self, endpoint: str, client_type: str) -> None:
        """Count a 429 of a route; `client_type` is the client's type, the kind of another entity,
        or `unknown` without authentication."""
        self._limited.labels(endpoint, client_type).inc()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application so that each response is counted once."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return

            started = time.perf_counter()
            status = 500  # for an exception, which is handled outside this middleware

            async def recording_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, recording_send)
            finally:
                seconds = time.perf_counter() - started
                self.count_request(scope["method"], endpoint_of(scope), status, seconds)

        return counted


def _durations(registry: CollectorRegistry) -> Callable[[str, str], Callable[[float], None]]:
    """Create the histogram of durations; return a function from labels to its `observe`."""
    name, labels = "tobogganing_manager_http_request_duration_seconds", ["method", "endpoint"]
    help = "Time from a request's header to the end of its response"
    if is_multiprocess():  # the values must be in the shared folder
        shared = Histogram(name, help, labels, buckets=DURATION_BUCKETS, registry=registry)
        return lambda *values: shared.labels(*values).observe
    family = FastHistogramFamily(name, help, labels, DURATION_BUCKETS)
    registry.register(family)
    return lambda *values: family.labels(*values).observe
