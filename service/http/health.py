"""Health endpoints, the same on every service."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from service.http.application import TemplateRoute, route
from service.http.errors import JSON

ReadinessCheck = Callable[[], Awaitable[list[str]]]
"""Returns what the service still waits for, in words; nothing when it is ready."""


LivenessCheck = Callable[[], list[str]]
"""Returns why the process should be started again, in words; nothing while it is well."""


def health_routes(
    not_ready_reasons: ReadinessCheck, liveness: LivenessCheck = list
) -> list[TemplateRoute]:
    """`/-/healthy`, `/health`, `/healthz` (alive); `/-/ready` (200 once nothing is waited for)."""

    async def healthy(_: Request) -> Response:
        if found := liveness():
            return JSON({"error": "Not healthy: " + "; ".join(found), "faults": found}, 503)
        return JSON({"status": "healthy"})

    async def ready(_: Request) -> Response:
        reasons = await not_ready_reasons()
        if reasons:
            error = "Not ready: waiting for " + ", ".join(reasons)
            return JSON({"error": error, "waiting_for": reasons}, 503)
        return JSON({"status": "ready"})

    return [
        route("/-/healthy", healthy, "GET"),
        route("/health", healthy, "GET"),
        route("/healthz", healthy, "GET"),
        route("/-/ready", ready, "GET"),
    ]
