"""Health endpoints, the same for all services."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from service.http.application import TemplateRoute, route
from service.http.errors import JSON

ReadinessCheck = Callable[[], Awaitable[list[str]]]
"""Returns the reasons why the service is not ready; empty if it is ready."""


LivenessCheck = Callable[[], list[str]]
"""Returns the reasons why the process should be restarted; empty if it is healthy."""


def health_routes(
    not_ready_reasons: ReadinessCheck, liveness: LivenessCheck = list
) -> list[TemplateRoute]:
    """Return the routes `/-/healthy`, `/health` and `/healthz` (liveness) and `/-/ready`
    (readiness)."""

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
