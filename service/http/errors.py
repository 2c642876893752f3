"""JSON responses, and the errors of the API."""

from typing import Any

import orjson
from starlette.responses import Response


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

    def fast_path_response(self) -> tuple[int, bytes, bytes]:
        """The same as service.http.fast_path takes it: status, body, lines of headers."""
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
