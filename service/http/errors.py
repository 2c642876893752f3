"""JSON responses, and the errors of the API."""

import math
from typing import Any

import orjson
from starlette.responses import Response

from service.rate_limiter import RateLimiter


class JSON(Response):
    """A JSON response, encoded with orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class ApiError(Exception):
    """An error response: `{"error": …}` with optional details."""

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
        """Return status, body and header lines for service.http.connection.fast_path."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (self.headers or {}).items())
        return self.status, orjson.dumps(self.body), lines.encode("latin-1")


def unauthorized() -> ApiError:
    """Return the 401, which is the same for every invalid credential."""
    return ApiError(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})


def unavailable(error: str, retry_after: int = 1) -> ApiError:
    """Return a 503; `retry_after` is in seconds."""
    return ApiError(503, error, headers={"Retry-After": str(retry_after)})


def too_many(
    error: str, policy: str, limiter: RateLimiter, wait: float, cost: float = 1
) -> ApiError:
    """Return a 429 of a limiter whose `acquire` returned `wait` for `cost`; `policy` is its name.

    Its RateLimit fields are those of draft-ietf-httpapi-ratelimit-headers-10.
    """
    quota, window = limiter.policy
    seconds = math.ceil(wait)
    headers = {
        "Retry-After": str(seconds),
        "RateLimit-Policy": f'"{policy}";q={quota};w={window}',
        "RateLimit": f'"{policy}";r={limiter.remaining(wait, cost)};t={seconds}',
    }
    return ApiError(429, error, headers=headers)
