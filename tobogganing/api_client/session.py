"""An asynchronous client of the API, for the command line and the simulator."""

import datetime
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

TIMEOUT = 15.0
"""Seconds; a gateway responds within 10."""
KEEP_ALIVE = 4.0
"""Seconds that a connection may idle: less than the server allows, so that none breaks in use."""
RENEW_AFTER = 0.8
"""Share of a token's lifetime after which it is renewed."""


NDJSON = "application/x-ndjson"


class ManagerUnreachableError(Exception):
    """There was no response; the request may have arrived."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class ApiResponse:
    """A response; `body` is empty if it was not a JSON object.

    `retry_after` is in seconds, 0 without the header; `seconds` is the response time.
    """

    status: int
    body: dict[str, Any]
    retry_after: float
    seconds: float
    lines: tuple[dict[str, Any], ...] = ()
    """Those of a response in NDJSON."""

    def __str__(self) -> str:
        return f"{self.status} {json.dumps(self.body, ensure_ascii=False)[:300]}"


class ManagerApi:
    """Sends requests over at most `connections` connections; an async context manager."""

    def __init__(self, url: str, connections: int) -> None:
        self._url = url.rstrip("/")
        self._connections = connections

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers={"User-Agent": "tobogganing"},
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def post_lines(self, path: str, lines: bytes, credential: str) -> ApiResponse:
        """Send NDJSON; see `request`."""
        return await self.request("POST", path, credential, lines=lines)

    async def request(
        self,
        method: str,
        path: str,
        credential: str | None = None,
        *,
        body: dict[str, Any] | None = None,
        lines: bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Send one request, with a `body` in JSON, or `lines` of it.

        Raises:
            ManagerUnreachableError: there was no response in time.
        """
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        if lines is not None:
            headers["Content-Type"] = NDJSON
        started = time.perf_counter()
        try:
            async with self._session.request(
                method, self._url + path, json=body, data=lines, params=query, headers=headers
            ) as response:
                text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ManagerUnreachableError(self._url + path, connection_fault(error)) from error
        in_lines = response.content_type == NDJSON
        return ApiResponse(
            status=response.status,
            body={} if in_lines else parse_json_object(text),
            retry_after=parse_retry_after(response.headers.get("Retry-After")),
            seconds=time.perf_counter() - started,
            lines=tuple(map(parse_json_object, text.splitlines())) if in_lines else (),
        )


def connection_fault(error: Exception) -> str:
    """Why there was no response, without aiohttp's notation of a connection."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=fault):
            why = getattr(fault, "verify_message", None) or fault
            return f"its certificate is not trusted: {why}"
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS as expected: check http:// and https://"
        case aiohttp.ClientConnectorError(os_error=socket.gaierror() as fault):
            return f"unknown host: {fault.strerror}"
        case aiohttp.ClientConnectorError(os_error=fault) if fault.errno:
            return os.strerror(fault.errno)
        case TimeoutError():
            return f"no response within {TIMEOUT:g} s"
    return str(error) or type(error).__name__


def renewal_time(expires_at: str, now: float) -> float:
    """When to renew a token that expires at this RFC 3339 time; `now` in seconds since the epoch.

    Raises:
        ValueError: `expires_at` is not such a time.
    """
    expiry = datetime.datetime.fromisoformat(expires_at)
    if expiry.tzinfo is None:
        raise ValueError(f"{expires_at!r} has no time zone")
    return now + (expiry.timestamp() - now) * RENEW_AFTER


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object; empty if the text is not one."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def parse_retry_after(text: str | None) -> float:
    """The seconds in a `Retry-After` header; 0 if there are none."""
    return float(text) if text and text.isascii() and text.isdigit() else 0.0
