"""The HTTP shell of every service: JSON answers, errors, routes that know their template."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import structlog
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from contract.kinds import ID_PATTERN
from service.direct import Direct
from service.requests import RequestMetrics

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class JSON(Response):
    """A JSON answer, encoded by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class ApiError(Exception):
    """An answer that is an error: `{"error": …}` with what else helps the caller."""

    def __init__(
        self, status: int, error: str, *, headers: dict[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **details}
        self.headers = headers

    def response(self) -> JSON:
        return JSON(self.body, self.status, headers=self.headers)

    def answer(self) -> tuple[int, bytes, bytes]:
        """The same as service.direct takes it: status, body, lines of headers."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (self.headers or {}).items())
        return self.status, orjson.dumps(self.body), lines.encode("latin-1")


def unauthorized() -> ApiError:
    """The one answer to every credential that does not fit."""
    return ApiError(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})


def unavailable(error: str, retry_after: int = 1) -> ApiError:
    """The answer where Kafka did not confirm in time; `retry_after` is in seconds."""
    return ApiError(503, error, headers={"Retry-After": str(retry_after)})


def too_many(error: str, retry_after: int) -> ApiError:
    """The answer to more than a limit allows; `retry_after` is in seconds."""
    return ApiError(429, error, headers={"Retry-After": str(retry_after)})


class _IdConvertor(Convertor[str]):
    regex = ID_PATTERN

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _IdConvertor())


class TemplateRoute(Route):
    """A route that leaves its template in the scope: request metrics name it, never a raw path."""

    def __init__(self, path: str, endpoint: Handler, *, methods: list[str]) -> None:
        super().__init__(path, endpoint, methods=methods)
        # Starlette ends the pattern with `$`, which also matches before a newline at the end.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint_template"] = self.path_format
        await super().handle(scope, receive, send)


def route(path: str, handler: Handler, *methods: str) -> TemplateRoute:
    return TemplateRoute(path, handler, methods=list(methods))


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSON({"error": error.detail}, error.status_code, headers=dict(error.headers or {}))


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return JSON({"error": "Internal server error"}, 500)


def answering_at_a_stop(app: ASGIApp) -> ASGIApp:
    """Answer 503 to what a stopping server cancels, where nothing has been answered yet."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, noting_send)
        except asyncio.CancelledError:
            if scope["type"] != "http" or started:
                raise
            # The task ends here in any case; raised on, uvicorn would make a 500 of it.
            await unavailable("The service is stopping: try again").response()(scope, receive, send)

    return answering


class Application(Starlette):
    """An application that service.protocol also asks to answer directly, if `direct` is set."""

    direct: Direct | None = None


def build_app(
    routes: Sequence[BaseRoute],
    metrics: RequestMetrics,
    lifespan: Lifespan[Starlette] | None = None,
    direct: Direct | None = None,
) -> Application:
    """Put routes into the shell: JSON errors, counted requests, no redirects.

    What `direct` takes does not come through here: it counts its requests itself.
    """
    app = Application(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_error,
            Exception: _on_fault,
        },
    )
    app.direct = direct
    app.router.redirect_slashes = False
    app.add_middleware(answering_at_a_stop)
    app.add_middleware(metrics.middleware)
    return app
