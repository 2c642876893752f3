"""Health endpoints, the same on every service."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from service.http import JSON, TemplateRoute, route

Reasons = Callable[[], Awaitable[list[str]]]
"""Returns what the service still waits for, in words; nothing when it is ready."""


def health_routes(reasons: Reasons) -> list[TemplateRoute]:
    """`/-/healthy`, `/health`, `/healthz` (alive); `/-/ready` (200 once nothing is waited for)."""

    async def healthy(_: Request) -> Response:
        return JSON({"status": "healthy"})

    async def ready(_: Request) -> Response:
        waiting_for = await reasons()
        if waiting_for:
            error = "Not ready: waiting for " + ", ".join(waiting_for)
            return JSON({"error": error, "waiting_for": waiting_for}, 503)
        return JSON({"status": "ready"})

    return [
        route("/-/healthy", healthy, "GET"),
        route("/health", healthy, "GET"),
        route("/healthz", healthy, "GET"),
        route("/-/ready", ready, "GET"),
    ]
