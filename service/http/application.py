"""Builds the Starlette application of a service: JSON errors, request metrics, route templates."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import structlog
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from contract.kinds import ID_PATTERN
from service.http.connection.fast_path import FastPathHandler
from service.http.errors import JSON, ApiError, unavailable
from service.http.problem import problem_details
from service.memory_budget import BudgetExceededError
from service.metrics.requests import RequestMetrics

log = structlog.get_logger(__name__)


Handler = Callable[[Request], Awaitable[Response]]


class _IdConvertor(Convertor[str]):
    regex = ID_PATTERN

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _IdConvertor())


class TemplateRoute(Route):
    """A route that stores its template in the scope, so that request metrics never contain a raw
    path."""

    def __init__(self, path: str, endpoint: Handler, *, methods: list[str]) -> None:
        super().__init__(path, endpoint, methods=methods)
        # Starlette's pattern ends with `$`, which also matches before a trailing newline.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint_template"] = self.path_format
        await super().handle(scope, receive, send)


def route(path: str, handler: Handler, *methods: str) -> TemplateRoute:
    return TemplateRoute(path, handler, methods=list(methods))


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _on_budget_exceeded(_: Request, error: Exception) -> Response:
    return unavailable(str(error)).response()


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSON({"error": error.detail}, error.status_code, headers=dict(error.headers or {}))


async def _on_unhandled_error(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return JSON({"error": "Internal server error"}, 500)


def shutdown_503(app: ASGIApp) -> ASGIApp:
    """Respond with 503 to requests that a stopping server cancels, unless a response was
    started."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def recording_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, recording_send)
        except asyncio.CancelledError:
            if scope["type"] != "http" or started:
                raise
            # If CancelledError were raised, uvicorn would respond with 500. The task ends here
            # anyway.
            await unavailable("The service is stopping: try again").response()(scope, receive, send)

    return wrapped


class Application(Starlette):
    """An application whose `fast_path`, if set, is called before ASGI
    (service.http.connection.protocol)."""

    fast_path: FastPathHandler | None = None
    on_stop: Callable[[], None] | None = None
    """Called when a stop begins: requests in flight still need a response."""

    def build_middleware_stack(self) -> ASGIApp:
        """Outside of Starlette's own middleware, which responds to unhandled errors."""
        return problem_details(super().build_middleware_stack())


def build_app(
    routes: Sequence[BaseRoute],
    metrics: RequestMetrics,
    lifespan: Lifespan[Starlette] | None = None,
    fast_path: FastPathHandler | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Application:
    """Build an application with JSON errors, request metrics and no redirects.

    Requests that `fast_path` handles bypass the application; `fast_path` counts them itself.
    """
    app = Application(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            ApiError: _on_api_error,
            BudgetExceededError: _on_budget_exceeded,
            HTTPException: _on_http_error,
            Exception: _on_unhandled_error,
        },
    )
    app.fast_path = fast_path
    app.on_stop = on_stop
    app.router.redirect_slashes = False
    app.add_middleware(shutdown_503)
    app.add_middleware(metrics.middleware)
    return app
