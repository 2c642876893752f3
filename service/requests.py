"""Request metrics: the manager's families that every HTTP service counts."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Credential = Literal["api_key", "jwt", "admin", "metrics_token"]
CREDENTIALS: tuple[Credential, ...] = ("api_key", "jwt", "admin", "metrics_token")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""Endpoint label of a request whose path is no route's."""


def endpoint_of(scope: Scope) -> str:
    """Template of the route that took a request: what metrics may name, never a raw path."""
    template: str = scope.get("endpoint_template", UNMATCHED)
    return template


def address_of(scope: Scope) -> str:
    """Address that a request came from; behind a trusted proxy, the one that it names."""
    client = scope.get("client")
    return client[0] if client else "unknown"


class RequestMetrics:
    """`http_requests_total` and `auth_attempts_total` of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "tobogganing_manager_http_requests",
            "HTTP requests processed",
            ["method", "endpoint", "status"],
            registry=registry,
        )
        self._attempts = Counter(
            "tobogganing_manager_auth_attempts",
            "Authentication attempts",
            ["type", "result"],
            registry=registry,
        )
        self._limited = Counter(
            "tobogganing_manager_api_rate_limit_hits",
            "Requests that a rate limit refused (429)",
            ["endpoint", "client_type"],
            registry=registry,
        )
        # Looking a child up by its labels costs more than counting.
        self._seen: dict[tuple[str, str, int], Counter] = {}
        self._results = {
            (credential, succeeded): self._attempts.labels(credential, result)
            for credential in CREDENTIALS
            for succeeded, result in ((True, "success"), (False, "failure"))
        }

    def count_request(self, method: str, endpoint: str, status: int) -> None:
        known = method if method in METHODS else "OTHER"
        counter = self._seen.get((known, endpoint, status))
        if counter is None:
            counter = self._requests.labels(known, endpoint, str(status))
            self._seen[known, endpoint, status] = counter
        counter.inc()

    def count_attempt(self, credential: Credential, succeeded: bool) -> None:
        self._results[credential, succeeded].inc()

    def count_limited(self, scope: Scope, client_type: str) -> None:
        """Count a 429; `client_type` is the client's type, the kind of another entity, or
        `unknown` where nobody has proved who they are."""
        self._limited.labels(endpoint_of(scope), client_type).inc()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application so that each of its answers is counted once."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return

            status = 500  # what the shell answers to an exception, outside of this middleware

            async def noting_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noting_send)
            finally:
                self.count_request(scope["method"], endpoint_of(scope), status)

        return counted
